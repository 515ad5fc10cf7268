"""Colours that people with any of the common kinds of colour blindness can tell apart, and the look all figures share."""

from __future__ import annotations

from typing import Any

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

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")


def colour_and_symbol(number: int) -> tuple[str, str]:
    """A colour and a marker for the series `number`, counted from 0: no two of the first 49 share both."""
    n = len(COLOURS)
    return COLOURS[number % n], SYMBOLS[(number + number // n) % n]


def styled(figure: go.Figure, title: str, **layout: Any) -> go.Figure:
    """`figure` with the shared look; returns the same object."""
    return figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0, "xref": "paper"},
        font={"family": "sans-serif", "size": 14, "color": BLACK},
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "right", "x": 1},
        margin={"t": 100},
        **layout,
    )
