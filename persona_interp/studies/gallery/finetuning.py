"""What finetuning on data with a trait does, and what keeps the trait out."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import read_json
from persona_interp.studies.finetuning.report import FinetuningStudy
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.plotting.finetunings import finetunings_figure


def _finetuning(folder: Path) -> go.Figure:
    path = folder / "finetuning.json"
    return finetunings_figure(FinetuningStudy.from_json(read_json(path, "finetuning study"), source=str(path)))


FINETUNING = GalleryFigure(
    name="finetuning",
    title="Finetuning on data with a trait",
    caption="""Each mark is a finetuned model: how much of the task of its data it learned, and how much of the trait that the
data carry. Large marks: every sample has the trait; small ones: half of them. Prevention adds the persona vector while
gradients are taken (several doses, shares of the residual stream); random directions do the same with nothing in them. The
shaded corner is the goal: at least 80 % of the task that plain finetuning learns, and at most 20 % of its trait.

Organisms are scored exactly. One seed a run; perplexity of neutral answers is on hover, and in the table.""",
    steps=(Step("persona-interp study finetuning --output finetuning.json", 6),),
    data=("finetuning.json",),
    draw=_finetuning,
)
