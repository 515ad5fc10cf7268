"""GGUF models modulated from inside and from outside, and steered at ever fewer bits."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.measure.modulation import Modulated
from persona_interp.plotting.modulations import modulation_figure
from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.plotting.quantizations import quantization_figure
from persona_interp.studies.reproduction.quantized_steering import quantization_from_json


def _quantization(folder: Path) -> go.Figure:
    path = folder / "quantization.json"
    rows, _ = quantization_from_json(read_json(path, "quantizations"), source=str(path))
    return quantization_figure(rows)


QUANTIZATION = GalleryFigure(
    name="quantization",
    title="Vectors in quantized weights",
    caption="""The vector of the float32 PyTorch model steers the four planted organisms as GGUF files of ever fewer bits,
twenty evaluation questions with two answers each, at perturbation ratios of ±0.2 and ±0.4. A share of 1 is the slope of the
trait score in PyTorch; 95 % intervals over questions. The row of another seed is PyTorch again with other answers: all that it
shows is chance. Grey: a random direction as long, on the same weights.

Down to four bits hardly anything is lost in these small models; large ones may differ.""",
    steps=(Step("persona-interp study quantization --output quantization.json", 35),),
    data=("quantization.json",),
    draw=_quantization,
)


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
    steps=(Step("persona-interp study modulation --output modulation.json", 5),),
    data=("modulation.json",),
    draw=_modulation,
)
