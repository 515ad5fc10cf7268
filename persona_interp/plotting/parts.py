"""An evaluation judge by judge: every column of scores against the coefficient, in a panel of its own."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.parts import part_mean, part_names
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import BLUE, GREY, VERMILION, styled


def parts_figure(evaluation: Evaluation) -> go.Figure:
    """What each judge or measure makes of the steered model, with 95 % intervals; level lines: prompted for and against.

    Raises:
        InvalidInputError: one judge scored it, which `evaluation_figure` shows.
    """
    points = evaluation.curve
    names = part_names(points)
    if not names:
        raise InvalidInputError(
            f"the judge {evaluation.judge!r} has no parts to draw: join several, as in contrast+measure:length"
        )
    bootstrap = QuestionBootstrap(len(evaluation.questions), evaluation.samples)
    figure = make_subplots(rows=1, cols=len(names), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(names))
    for column, name in enumerate(names, start=1):
        means = [part_mean(bootstrap, point, name) for point in points]
        figure.add_trace(
            go.Scatter(
                x=[point.coefficient for point in points],
                y=[mean.value for mean in means],
                name="steered",
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": BLUE},
                marker={"size": 9},
                error_y=interval_bars(means),
                hovertemplate="%{x:+g}: %{y:.0f}<extra></extra>",
            ),
            row=1,
            col=column,
        )
        ends = (
            (evaluation.controls.prompted, VERMILION, "asked for"),
            (evaluation.controls.prompted_against, GREY, "asked against"),
        )
        for point, colour, label in ends:
            level = part_mean(bootstrap, point, name).value
            x = [points[0].coefficient, points[-1].coefficient]
            line = {"color": colour, "dash": "dot", "width": 1.5}
            trace = go.Scatter(
                x=x, y=[level, level], name=label, mode="lines", line=line, showlegend=column == 1, hoverinfo="skip"
            )
            figure.add_trace(trace, row=1, col=column)
    figure.update_yaxes(range=[-4, 104])
    figure.update_yaxes(title_text="score (0 to 100)", col=1)
    figure.update_xaxes(title_text="coefficient")
    return styled(figure, f"{evaluation.vector} in {evaluation.model}, judge by judge", legend="beside", height=460)
