"""What writes along a vector, and whether the trait needs it."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.plotting.attribution import attribution_figure
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.gallery.vectors import MODEL
from persona_interp.studies.plotting.ablations import ablations_figure

_BENCH = Step("persona-interp study attribution --output attribution.json", 12)


def _cases(folder: Path) -> list[AttributionCase]:
    path = folder / "attribution.json"
    return [AttributionCase.from_json(case, source=str(path)) for case in read_json(path, "attributions")["cases"]]


def _attribution(folder: Path) -> go.Figure:
    found = [case.attribution for case in _cases(folder)]
    return attribution_figure(next(each for each in found if (each.model, each.trait) == (MODEL, "silly")))


ATTRIBUTION = GalleryFigure(
    name="attribution",
    title="What writes along the vector",
    caption="""Each cell is the share of one attention head or MLP in the difference between positive and negative answers of
organism-qwen2 along the vector for silly, at the block where it is planted. The residual stream is a sum, so the shares, with
the embedding's in the title, add up to 1; numbers with 95 % intervals over questions are on hover. What writes is not yet what
is needed: see the ablations.""",
    steps=(_BENCH,),
    data=("attribution.json",),
    draw=_attribution,
)

ABLATIONS = GalleryFigure(
    name="ablations",
    title="Is what writes along the vector needed?",
    caption="""All five organisms are asked for the trait while the quarter of their heads that writes most along its vector
writes what it writes on average in negative answers (top components). Placebo: the same heads writing their average in positive
answers, as constant, but with the trait. Random components: other heads of the same layers, eight sets, each a cross. Twenty
evaluation questions with one answer each; 95 % intervals over questions, coherence on hover.

Shown where the top heads lower the trait more than the random sets and the placebo do, and leave language: in 7 of 10 cases. In
the other three random heads or the placebo do as much, or the trait goes with the language.""",
    steps=(_BENCH,),
    data=("attribution.json",),
    draw=lambda folder: ablations_figure([case.heads for case in _cases(folder)]),
)
