"""Layers: where steering works, who foresees it, how answers separate, how long the residual stream is."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.measure.layer_scan import LayerScan
from persona_interp.plotting.norms import norms_figure
from persona_interp.plotting.scan import scan_figure
from persona_interp.plotting.separation import separation_figure
from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.gallery.vectors import LONG_ENOUGH, MODEL, MODELS, extraction, vector_file
from persona_interp.studies.layers import LayerBench
from persona_interp.studies.plotting.layer_choices import layer_choices_figure
from persona_interp.vectors.pair_projections import PairProjections
from persona_interp.vectors.persona_vector import PersonaVector


def _scan(folder: Path) -> go.Figure:
    path = folder / "scans" / "silly.json"
    return scan_figure(LayerScan.from_json(read_json(path, "layer scan"), source=str(path)))


SCAN = GalleryFigure(
    name="scan",
    title="Every layer at every dose",
    caption="""Silly in organism-qwen2, steered at one layer at a time at equal perturbation ratios, on twenty extraction
questions with one answer each; exact scores, an answer and 95 % intervals on hover. Column 0 is the unsteered model. A cross
stands where coherence is below 75. The star is the layer that gets far by the smallest push; with twenty questions a cell,
neighbours do not differ by more than noise.""",
    steps=(
        extraction(MODEL, "silly"),
        Step(
            f"persona-interp layer-effectiveness --model {MODEL} --trait silly --vectors {vector_file(MODEL, 'silly')} "
            f"--method likelihood sweep {LONG_ENOUGH} --scan scans/silly.json",
            1,
        ),
    ),
    data=("scans/silly.json",),
    draw=_scan,
)


def _layer_choices(folder: Path) -> go.Figure:
    benches = [LayerBench.from_json(read_json(path, "layer bench"), source=str(path)) for path in LAYER_CHOICES.files(folder)]
    return layer_choices_figure(sorted(benches, key=lambda bench: bench.trait != "silly"))


LAYER_CHOICES = GalleryFigure(
    name="layer-choices",
    title="Which layer each method chooses",
    caption="""All five organisms, silly and honest. Bars: the furthest coherent movement that steering at a layer reaches on
twenty evaluation questions (four answers each, standard errors of up to five points); the best one is dark. Markers above a
bar: the ways of choosing that chose it, on other questions. A marker above a low bar chose badly.

Screened likelihood, which --layer auto goes by, costs at most 5.3 % of the tokens of the exhaustive sweep. Geometry (how well
a layer separates answers) and a fixed depth cost nothing. natural has nothing planted.""",
    steps=(Step("persona-interp study layers --output layers", 35),),
    data=("layers/*.json",),
    draw=_layer_choices,
)


def _separation(folder: Path) -> go.Figure:
    path = folder / "projections" / "silly.json"
    return separation_figure(PairProjections.from_json(read_json(path, "projections"), source=str(path)))


SEPARATION = GalleryFigure(
    name="separation",
    title="Every layer separates, not every layer steers",
    caption="""Answers of organism-qwen2 that were asked for silly and against it, projected at every layer onto the direction
of the other half of the questions, in standard deviations from the midpoint. Every layer separates them perfectly (AUROC 1.00),
yet steered at a perturbation ratio of 0.4 silly reaches 95 at layer 4 and 36 at layer 7: compare the map of layers and doses.""",
    steps=(
        Step(f"{extraction(MODEL, 'silly').command} --projections projections/silly.json", extraction(MODEL, "silly").minutes),
    ),
    data=("projections/silly.json",),
    draw=_separation,
)


def _norms(folder: Path) -> go.Figure:
    return norms_figure([PersonaVector.load(path) for path in NORMS.files(folder)])


NORMS = GalleryFigure(
    name="norms",
    title="How long the residual stream is",
    caption="""The five organisms while they answer for and against silly. Left: mean norm of the residual stream at single
positions. Right: the vector's norm over it, which is the perturbation ratio of coefficient 1, so the same coefficient is a push
of another size in every model and layer; where silly was planted, it is largest. Dimensions that dwarf the others (a hundred
times the layer's median, or a quarter of the vector) would be counted in the title; large language models have some, these
small ones do not.""",
    steps=tuple(extraction(model, "silly") for model in MODELS),
    data=tuple(vector_file(model, "silly") for model in MODELS),
    draw=_norms,
)
