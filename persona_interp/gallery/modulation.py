"""GGUF models modulated from inside and from outside."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.gallery.entry import GalleryFigure, Step
from persona_interp.plotting.modulations import modulation_figure
from persona_interp.reproduction.modulation import Modulated
from persona_interp.storage import read_json


def _modulation(folder: Path) -> go.Figure:
    cases = read_json(folder / "modulation.json", "modulations")["cases"]
    return modulation_figure([Modulated.from_json(each) for each in cases])


MODULATION = GalleryFigure(
    name="modulation",
    title="What moves a GGUF model",
    caption="""The four planted organisms exported to GGUF, twenty evaluation questions with two answers each. Everything is
measured against what a control vector inside the same file moves, at perturbation ratios of ±0.4; 95 % intervals over
questions.

Biases of tokens move silly as far and honest not at all: silliness is a matter of words, truth is not. Sampling parameters move
nothing that a placebo does not move as well; at ±20 text falls apart (coherence on hover). Modulating parameters by a persona
vector does not work.""",
    steps=(Step("persona-interp validate-modulation --output modulation.json", 5),),
    data=("modulation.json",),
    draw=_modulation,
)
