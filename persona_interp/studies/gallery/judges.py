"""Judges where the truth is known, and where it is not."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.judges.judge_validation import JudgeValidation
from persona_interp.studies.judges.real_validation import RealValidation
from persona_interp.studies.judges.validations_file import validations_from
from persona_interp.studies.plotting.judges import judges_figure
from persona_interp.studies.plotting.real_judges import real_judges_figure


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


def _real_judges(folder: Path) -> go.Figure:
    path = folder / "judges-real.json"
    return real_judges_figure(validations_from(read_json(path, "judge validations"), RealValidation, source=str(path)))


REAL_JUDGES = GalleryFigure(
    name="judges-real",
    title="Judges on a real model",
    caption="""SmolLM2-135M-Instruct answers twelve questions a trait under system prompts for it and against it. A cell is how
often an answer asked for the trait scores above one asked against it; white is chance. The contrast judge is the same model, by
instructions that no answer was asked under; all other judges ask no model. Framed are the judges that are meant to speak for the
trait; their sign is turned where low values do. The others are controls, the length of the answer first.

A star marks what reaches .8 and leaves no more than a quarter of the answers without a score: claims may rest on it. A judge
below is not thereby wrong: a model of this size hardly follows some of these prompts, and then there is little to hear.""",
    steps=(Step("persona-interp study judges --real smollm2-135m-instruct --num-prompts 12 --output judges-real.json", 15),),
    data=("judges-real.json",),
    draw=_real_judges,
)
