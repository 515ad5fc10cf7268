"""A small HTML table: what results look like as the last line of a notebook's cell.

There is no colour in it but the theme's own, so it reads on light and on dark ground.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeAlias

Cell: TypeAlias = str | float | None

_BAR = "height: 0.7em; background: currentColor; opacity: 0.45"
_BAR_WIDTH = 120


def html_table(title: str, columns: Mapping[str, Sequence[Cell]], *, bars: str | None = None, best: int | None = None) -> str:
    """Columns of equal length under their headings, every text escaped.

    Args:
        title: a sentence or two above the table.
        columns: heading -> cells; texts and integers as they are, other numbers to three digits, None as a dash.
        bars: heading of a column of numbers that is drawn once more as bars; what is not above 0 has none.
        best: the row in bold.
    """
    heads = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in [*columns, *([] if bars is None else [""])])
    drawn = [""] * len(next(iter(columns.values()), ())) if bars is None else _drawn(columns[bars])
    rows: list[str] = []
    for place, cells in enumerate(zip(*columns.values(), strict=True)):
        shown = [_shown(cell) for cell in cells]
        marked = [f"<strong>{cell}</strong>" for cell in shown] if place == best else shown
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in marked) + drawn[place] + "</tr>")
    # above the table rather than its caption, which would be no wider than the table
    return f"<p>{escape(title)}</p><table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _shown(value: Cell) -> str:
    if isinstance(value, str):
        return escape(value)
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"


def _drawn(values: Sequence[Cell]) -> list[str]:
    """A cell with a bar for each number, the largest as wide as there is room."""
    numbers = [value if isinstance(value, int | float) and value > 0 else 0.0 for value in values]
    most = max(numbers, default=0.0) or 1.0
    widths = [round(_BAR_WIDTH * number / most) for number in numbers]
    return [f'<td aria-hidden="true"><div style="width: {width}px; {_BAR}"></div></td>' for width in widths]
