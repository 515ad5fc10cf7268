"""Judges where the truth is known."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.judges.judge_validation import JudgeValidation
from persona_interp.studies.judges.validations_file import validations_from
from persona_interp.studies.plotting.judges import judges_figure


def _judges(folder: Path) -> go.Figure:
    path = folder / "judges.json"
    return judges_figure(validations_from(read_json(path, "judge validations"), JudgeValidation, source=str(path)))


JUDGES = GalleryFigure(
    name="judges",
    title="Judges against the exact truth",
    caption="""The contrast judge and the perplexity coherence know nothing of the grammar, which knows the truth: 440 answers
a row, unsteered, asked for and against the trait, and steered so far that they break. Above: how well a judge tells answers
that have the quality from those that have not, beside their length and its own scores dealt out at random; 95 % intervals over
questions. Below: its scores against the exact ones, pooled over ten points of score (at least five answers a point).

Both rank well, and their numbers are not the exact ones: compare them with each other.""",
    steps=(Step("persona-interp study judges --output judges.json", 8),),
    data=("judges.json",),
    draw=_judges,
)
