"""Colours that people with any of the common kinds of colour blindness can tell apart, and the look all figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import plotly.graph_objects as go

# Okabe and Ito, Color Universal Design (2008). Lines also differ in dash or marker, so that no meaning rests on colour alone.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
BLACK = "#000000"
GREY = "#767676"
PALE = "#B8B8B8"

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")

ROLES: dict[str, tuple[str, str]] = {
    "effects": (BLUE, "circle"),
    "states": (GREEN, "square"),
    "prompt only": (VERMILION, "diamond"),
    "other trait": (ORANGE, "star"),
    "equal depth": (PURPLE, "pentagon"),
    "shuffled": (SKY, "triangle-up"),
    "naive": (BLACK, "cross"),
    "random": (GREY, "x"),
}
"""Colour and marker of what stands in several figures: what is tested, what it competes with, and controls."""

SEQUENTIAL = [
    [0.0, "#7D7C76"], [0.11, "#8A8678"], [0.33, "#A59C74"], [0.56, "#C3B369"], [0.78, "#E1CC55"], [1.0, "#FEE838"],
]  # fmt: skip
"""For what has no middle: the lighter half of Cividis, on which black text stays legible. Cividis was made for colour-blind
readers (Nuñez, Anderton and Renslow 2018, PLOS ONE 13:e0199239)."""

MISSING = "#E2E2E2"
"""Ground on which cells without a value lie open."""

_BELOW, _MIDDLE, _ABOVE = (90, 169, 220), (255, 255, 255), (240, 154, 94)
"""Blue, white, vermilion: told apart with any common kind of colour blindness, and black text stays legible on all."""
_TITLE_WIDTH = 95
_TITLE_LINE = 21
"""Characters in a line of a title, and its height in pixels."""

Legend: TypeAlias = Literal["above", "beside", "none"]

_ABOVE_RIGHT = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "right", "x": 1}
_BESIDE = {"orientation": "v", "yanchor": "top", "y": 1, "xanchor": "left", "x": 1.02, "font": {"size": 12}}


def diverging(middle: float = 0.5) -> list[list[float | str]]:
    """A colour scale from blue to vermilion that is white at `middle` of the way, and changes as fast on both sides of it."""
    longer = max(middle, 1 - middle)
    scale: list[list[float | str]] = [[middle, _mixed(_MIDDLE, 1.0)]]
    if middle > 0:
        scale.insert(0, [0.0, _mixed(_BELOW, middle / longer)])
    if middle < 1:
        scale.append([1.0, _mixed(_ABOVE, (1 - middle) / longer)])
    return scale


def _mixed(colour: tuple[int, int, int], strength: float) -> str:
    """`colour` over white."""
    parts = (round(white + (part - white) * strength) for part, white in zip(colour, _MIDDLE, strict=True))
    return "#" + "".join(f"{part:02X}" for part in parts)


def log_axis(values: Iterable[float | None]) -> dict[str, Any]:
    """A logarithmic axis for `values` whose labels do not run into each other."""
    known = [value for value in values if value is not None and value > 0]
    wide = len(known) > 0 and max(known) / min(known) > 6
    return {"type": "log", "tickformat": "~g", "dtick": "D2" if wide else None}


def colour_and_symbol(number: int) -> tuple[str, str]:
    """A colour and a marker for the series `number`, counted from 0: no two of the first 49 share both."""
    n = len(COLOURS)
    return COLOURS[number % n], SYMBOLS[(number + number // n) % n]


def wrapped_title(title: str, width: int = _TITLE_WIDTH) -> str:
    """`title` in lines of at most `width` characters, which fit above a figure: names of models and folders can be long."""
    return "<br>".join(line for part in title.split("<br>") for line in textwrap.wrap(part, width) or [""])


def styled(figure: go.Figure, title: str, *, legend: Legend = "above", **layout: Any) -> go.Figure:
    """`figure` with the shared look; returns the same object.

    Args:
        figure: is changed.
        title: wrapped where it is long.
        legend: above the figure, where few short entries have room; beside it; or none. Above, hovering reads all curves at once.
        layout: more of plotly's layout, which comes last.
    """
    text = wrapped_title(title)
    more = _TITLE_LINE * text.count("<br>")
    place = {"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 16 + more // 2}}
    figure.update_layout(
        template="plotly_white",
        title={"text": text, "font": {"size": 16}, **place},
        font={"family": "sans-serif", "size": 14, "color": BLACK},
        hovermode="x unified" if legend == "above" else "closest",
        showlegend=legend != "none",
        legend=_BESIDE if legend == "beside" else _ABOVE_RIGHT,
        margin={"t": (100 if legend == "above" else 76) + more},
    )
    return figure.update_layout(**layout)
