"""Judges where nothing is exact: which of them tell answers asked for a trait from answers asked against it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.judges.trial import ENOUGH
from persona_interp.plotting.palette import BLACK, MISSING, diverging, styled
from persona_interp.studies.judges.real_validation import RealValidation


def real_judges_figure(found: Sequence[RealValidation]) -> go.Figure:
    """A row for each model and trait, a column for each judge; in the cells the AUROC of asked for against asked against.

    White is chance. A frame marks the judges that are meant to speak for the trait; a star those that reach .8 and may carry
    claims. A measure that is not meant for the trait shows what else goes with it, its length first of all.

    Raises:
        InvalidInputError: there is no validation.
    """
    if not found:
        raise InvalidInputError("there is no validation of a judge to draw: give at least one")
    judges = list(dict.fromkeys(column.judge for each in found for column in each.columns))
    several = len({each.model.name for each in found}) > 1
    rows = [f"{each.model.name}, {each.trait}" if several else each.trait for each in found]
    values, texts, hovers = [], [], []
    for each in found:
        known = {column.judge: column for column in each.columns}
        areas = {judge: each.auroc(judge) for judge in known}
        values.append([areas[judge].value if judge in areas else None for judge in judges])
        texts.append([_cell(each, judge) if judge in known else "" for judge in judges])
        hovers.append(
            [f"{areas[judge]}, {each.n_missing(judge)} without a score" if judge in known else "not measured" for judge in judges]
        )
    heat = go.Heatmap(
        z=values, x=judges, y=rows, text=texts, texttemplate="%{text}", customdata=hovers, zmin=0, zmax=1, colorscale=diverging(),
        hovertemplate="%{y}, %{x}<br>AUROC %{customdata}<extra></extra>", xgap=2, ygap=2, hoverongaps=False,
        colorbar={"title": {"text": "AUROC"}},
    )  # fmt: skip
    figure = go.Figure(heat)
    for place, each in enumerate(found):
        for column in each.columns:
            if column.speaks:
                x = judges.index(column.judge)
                figure.add_shape(
                    type="rect", x0=x - 0.47, x1=x + 0.47, y0=place - 0.45, y1=place + 0.45, line={"color": BLACK, "width": 2.5}
                )
    figure.update_layout(plot_bgcolor=MISSING)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False)
    models = ", ".join(dict.fromkeys(each.model.name for each in found))
    marks = f"framed: meant for the trait; *: {ENOUGH:g} or more"
    title = f"Do judges tell answers of {models} asked for a trait from answers asked against it? ({marks})"
    return styled(figure, title, legend="none", height=230 + 48 * len(found))


def _cell(found: RealValidation, judge: str) -> str:
    value = found.auroc(judge).value
    return "–" if value is None else f"{value:.2f}" + ("*" if found.of(judge).speaks and found.used(judge) else "")
