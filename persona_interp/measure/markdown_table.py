"""Tables in Markdown, as the documentation and every report have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table. Cells stand as they are: what a model wrote is escaped before, see `sections`."""
    return [_row(headings), "|---" * len(headings) + "|", *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
