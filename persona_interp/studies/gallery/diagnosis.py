"""Why transfers fail: on real pairs, and on twins whose faults are known."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import read_json
from persona_interp.studies.diagnoses.pairs_bench import pairs_from_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.plotting.diagnoses import confusion_figure, contributions_figure


def _contributions(folder: Path) -> go.Figure:
    path = folder / "diagnostics_pairs.json"
    return contributions_figure(pairs_from_json(read_json(path, "diagnoses of pairs"), source=str(path)))


CONTRIBUTIONS = GalleryFigure(
    name="contributions",
    title="Why vectors fail as they are",
    caption="""The source's vector is put into the target as it is (cross) and with every subset of three fixes: its length
(magnitude), its direction (basis, by effects), its layer. Bars are what each fix adds, averaged over the orders in which they
can be made (Shapley values); they add up to all three (dot). Twenty evaluation questions, two answers each; 95 % intervals over
questions, where there are any.

The diamond is all three fixes with the basis fixed by a linear map of states: silly still arrives and honest does not, so taken
as a map of states the three causes do not explain the loss of honest.""",
    steps=(Step("persona-interp study diagnostics --pairs --samples 2 --output diagnostics_pairs.json", 28),),
    data=("diagnostics_pairs.json",),
    draw=_contributions,
)


def _twins(folder: Path) -> go.Figure:
    return confusion_figure(read_json(folder / "diagnostics.json", "validation of diagnoses")["confusion"])


TWINS = GalleryFigure(
    name="twins",
    title="Diagnoses of faults that are known",
    caption="""64 exact twins of llama, mistral and qwen2, with every combination of a stream rescaled (magnitude), rotated
(basis) or spread over more blocks (layers), harmless ones among them; a fault counts as planted where it alone drops recovery
below 0.5. All faults are clear-cut: this tests the instrument, not borderline cases.""",
    steps=(Step("persona-interp study diagnostics --output diagnostics.json", 11),),
    data=("diagnostics.json",),
    draw=_twins,
)
