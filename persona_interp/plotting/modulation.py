"""Ways of modulating a model from inside and from outside, by their share of what a control vector does."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.plotting import hover
from persona_interp.plotting.forest import Row, forest
from persona_interp.plotting.palette import BLUE, GREEN, GREY, VERMILION
from persona_interp.reproduction.modulation import Modulated

_INSIDE, _PROMPT = "control vector", "prompt only"
_MARKS = {_INSIDE: (GREEN, "diamond"), _PROMPT: (VERMILION, "triangle-up")}


def modulation_figure(found: Sequence[Modulated]) -> go.Figure:
    """A panel for each trait, a row for each mode, a marker for each model, with 95 % intervals; placebos are grey squares.

    A mode works where it lies clear of 0 and of the placebos.
    """
    panels = {
        trait: [_row(each) for each in found if each.trait == trait] for trait in dict.fromkeys(each.trait for each in found)
    }
    models = ", ".join(dict.fromkeys(each.model for each in found))
    title = f"What each way of modulating moves in {models}, as a share of what the control vector moves (grey: placebos)"
    return forest(panels, title=title, unit="share of the control vector's effect")


def _row(each: Modulated) -> Row:
    ends = " to ".join("–" if value is None else f"{value:.0f}" for value in (each.low, each.high))
    note = hover.lines(
        f"{each.model}, {each.trait} score {ends}",
        f"moves {hover.with_interval(each.movement)} points",
        "" if each.coherence is None else f"lowest coherence {each.coherence:.0f}",
    )
    name = f"{each.mode} (placebo)" if each.placebo else each.mode
    colour, symbol = (GREY, "square") if each.placebo else _MARKS.get(each.mode, (BLUE, "circle"))
    return Row(name, each.share, colour, symbol, note)
