"""Tables and lines on the terminal, readable at 100 columns and as plain text in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from persona_interp.vectors.persona_vector import PersonaVector

PIPE_WIDTH = 100
"""Columns where there is no terminal to ask, for example in a log."""

_WIDE = 1e6
"""From here on a number is shown by its order of magnitude: all its digits would leave no room for the texts beside it."""

_NONE = "–"

_COLUMNS = (
    ("auroc", "AUROC"),
    ("cohens_d", "Cohen's d"),
    ("split_half", "split-half cosine"),
    ("effectiveness", "effectiveness"),
)
_DIGITS = {"effectiveness": 3}


class Cell(str):
    """What stands in a cell, and the number it was made of."""

    value: float | None

    @classmethod
    def of(cls, text: str, value: float | None) -> Cell:
        """`text`, which shows `value`."""
        made = cls(text)
        made.value = value
        return made


class Collected:
    """Tables as they come, in place of their printing."""

    def __init__(self) -> None:
        self.tables: list[tuple[str, list[dict[str, Any]]]] = []

    def to_json(self) -> str:
        """The rows of the one table there is, or of several by their titles; a row is an object, its keys the headings."""
        found: Any = self.tables[0][1] if len(self.tables) == 1 else dict(self.tables)
        return json.dumps(found, ensure_ascii=False, indent=2)


_COLLECTED: ContextVar[Collected | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Iterator[Collected]:
    """Within the block tables are collected, and what else is printed on the `console` goes to stderr."""
    token = _COLLECTED.set(found := Collected())
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


class _Aside(Console):
    """Standard error, for all but tables."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Collect a table, print the rest."""
        found = _COLLECTED.get()
        for shown in objects:
            rows = getattr(shown, "cells", None)
            if rows is not None and found is not None:
                found.tables.append((str(getattr(shown, "title", "")), rows))
            else:
                super().print(shown, **options)


def console() -> Console:
    """Standard output: as wide as the terminal, or 100 columns."""
    if _COLLECTED.get() is not None:
        return _Aside(file=sys.stderr)
    plain = Console()
    return plain if plain.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_WIDTH)


def table(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> Table:
    """A table; a column is (heading, ``"left"`` or ``"right"``). Cells are text, never markup."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for heading, side in columns:
        made.add_column(heading, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side == "right")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    headings = [heading for heading, _ in columns]
    object.__setattr__(made, "cells", [dict(zip(headings, map(_raw, row), strict=True)) for row in rows])
    return made


def _raw(cell: str) -> Any:
    if isinstance(cell, Cell):
        return cell.value
    return None if cell == _NONE else cell


def shown(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    text = _NONE if value is None else f"{value:.{digits}f}" if abs(value) < _WIDE else f"{value:.1e}"
    return Cell.of(text, value)


def cut(text: str, most: int) -> str:
    """`text` in one line of at most `most` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


def layer_table(vector: PersonaVector) -> Table:
    """What is known about each layer of a vector: norms and, where recorded, the statistics of its extraction."""
    ratios = vector.listed("norm_ratio")
    known = [(key, heading) for key, heading in _COLUMNS if key in vector.statistics]
    rows = [
        [
            Cell.of(str(layer), layer),
            shown(norm),
            shown(ratio),
            *(shown(vector.listed(key)[row], _DIGITS.get(key, 2)) for key, _ in known),
        ]
        for row, (layer, norm, ratio) in enumerate(zip(vector.layers, vector.norms.tolist(), ratios, strict=True))
    ]
    headings = ["layer", "norm", "norm / mean resid", *(heading for _, heading in known)]
    return table(f"{vector.trait} in {vector.model.name}", [(heading, "right") for heading in headings], rows)
