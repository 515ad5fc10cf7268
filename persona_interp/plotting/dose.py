"""Dose and response: trait score and coherence against the coefficient."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.measure.bootstrap import QuestionBootstrap, answers_each
from persona_interp.measure.dose import DosePoint, DoseResponse
from persona_interp.measure.layer_scan import MIN_COHERENCE
from persona_interp.measure.parts import part_mean, part_names
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting import hover
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, styled

PARTS = (GREEN, ORANGE, PURPLE, SKY)
"""Colours of the columns of several judges."""


def dose_figure(dose: DoseResponse) -> go.Figure:
    """Mean trait score and coherence at each coefficient, 95 % intervals over questions, an example on hover.

    Intervals are a bootstrap's, so they end within the scale; with one question there is none. Answers without a score are left
    out of the means, and counted on hover. A coefficient without any score leaves a gap.
    """
    points = sorted(dose.points, key=lambda point: point.coefficient)
    figure = go.Figure()
    n_answers = max((point.n for point in points), default=0)
    samples = answers_each(dose.provenance, n_answers)
    bootstrap = QuestionBootstrap(n_answers // samples, samples)
    trait = [bootstrap.mean(point.trait_scores) for point in points]
    coherence = [bootstrap.mean(point.coherence_scores) for point in points]
    on_hover = [_hover(point) for point in points]
    _curve(figure, points, f"{dose.trait} score", trait, BLUE, "circle", "solid", on_hover)
    _curve(figure, points, "coherence", coherence, VERMILION, "diamond", "dash", None)
    for number, name in enumerate(part_names(points)):
        means = [part_mean(bootstrap, point, name) for point in points]
        _curve(figure, points, name, means, PARTS[number % len(PARTS)], "circle-open", "dot", None)
    # the dose is usable where coherence stays above this line
    figure.add_hline(y=MIN_COHERENCE, line={"color": GREY, "dash": "dot", "width": 1})
    figure.add_annotation(
        x=0,
        xref="paper",
        y=MIN_COHERENCE,
        text=f"coherence {MIN_COHERENCE:g}",
        showarrow=False,
        yshift=9,
        font={"color": GREY, "size": 12},
    )
    figure.update_xaxes(title_text="coefficient (multiples of the vector; 0 = unsteered)", zeroline=True)
    figure.update_yaxes(title_text="score (0 to 100)", range=[-4, 104])
    layers = ", ".join(map(str, dose.layers))
    return styled(figure, f"{dose.vector} vector added to {dose.model} at layer {layers}, judged by {dose.judge}", height=560)


def _curve(
    figure: go.Figure,
    points: Sequence[DosePoint],
    name: str,
    means: Sequence[Estimate],
    colour: str,
    symbol: str,
    dash: str,
    on_hover: Sequence[str] | None,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[point.coefficient for point in points],
            y=[mean.value for mean in means],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 10},
            error_y=interval_bars(means, thickness=1.2),
            connectgaps=False,
            customdata=None if on_hover is None else list(on_hover),
            hovertemplate="%{y:.1f}" if on_hover is None else "%{y:.1f}<br>%{customdata}",
        )
    )


def _hover(point: DosePoint) -> str:
    return hover.lines(hover.answers(point), hover.push(point), hover.example(point))
