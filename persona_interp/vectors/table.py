"""Numbers as a small HTML table, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def html_table(title: str, columns: Mapping[str, Sequence[float | None]]) -> str:
    """Columns of equal length under their headings; integers as they are, others to three digits, None as a dash."""
    heads = "".join(f"<th>{escape(heading)}</th>" for heading in columns)
    rows = ("".join(f"<td>{_shown(value)}</td>" for value in row) for row in zip(*columns.values(), strict=True))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"
