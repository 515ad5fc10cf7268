"""Tables and lines on the terminal, readable at 100 columns and as plain text in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from persona_interp.vectors.persona_vector import PersonaVector

PIPE_WIDTH = 100
"""Columns where there is no terminal to ask, for example in a log."""

_WIDE = 1e6
"""From here on a number is shown by its order of magnitude: all its digits would leave no room for the texts beside it."""

_COLUMNS = (
    ("auroc", "AUROC"),
    ("cohens_d", "Cohen's d"),
    ("split_half", "split-half cosine"),
    ("effectiveness", "effectiveness"),
)
_DIGITS = {"effectiveness": 3}


def console() -> Console:
    """Standard output: as wide as the terminal, or 100 columns."""
    plain = Console()
    return plain if plain.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_WIDTH)


def table(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> Table:
    """A table; a column is (heading, ``"left"`` or ``"right"``). Cells are text, never markup."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for heading, side in columns:
        made.add_column(heading, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side == "right")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def shown(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < _WIDE else f"{value:.1e}"


def cut(text: str, most: int) -> str:
    """`text` in one line of at most `most` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."


def layer_table(vector: PersonaVector) -> Table:
    """What is known about each layer of a vector: norms and, where recorded, the statistics of its extraction."""
    known = [(key, heading) for key, heading in _COLUMNS if key in vector.statistics]
    rows = [
        [str(layer), shown(norm), shown(ratio), *(shown(vector.statistics[key][row], _DIGITS.get(key, 2)) for key, _ in known)]
        for row, (layer, norm, ratio) in enumerate(zip(vector.layers, vector.norms, vector.norm_ratios, strict=True))
    ]
    headings = ["layer", "norm", "norm / mean resid", *(heading for _, heading in known)]
    return table(f"{vector.trait} in {vector.model.name}", [(heading, "right") for heading in headings], rows)
