"""Dose and response: trait score and coherence against the coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import stdev

import plotly.graph_objects as go

from persona_interp.evaluation.dose import DosePoint, DoseResponse
from persona_interp.evaluation.layer_scan import MIN_COHERENCE
from persona_interp.plotting import hover
from persona_interp.plotting.palette import BLUE, GREY, VERMILION, styled


def dose_figure(dose: DoseResponse) -> go.Figure:
    """Mean trait score and coherence at each coefficient, bars of 1.96 standard errors over the answers, an example on hover.

    Bars end at 0 and 100, which no mean can pass. Answers without a score are left out of the means, and counted on hover. A
    coefficient without any score leaves a gap.
    """
    points = sorted(dose.points, key=lambda point: point.coefficient)
    figure = go.Figure()
    trait = [point.trait for point in points]
    coherence = [point.coherence for point in points]
    on_hover = [_hover(point) for point in points]
    _curve(figure, points, f"{dose.trait} score", trait, [p.trait_scores for p in points], BLUE, "circle", "solid", on_hover)
    _curve(
        figure, points, "coherence", coherence, [point.coherence_scores for point in points], VERMILION, "diamond", "dash", None
    )
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
    means: Sequence[float | None],
    scores: Sequence[Sequence[float | None]],
    colour: str,
    symbol: str,
    dash: str,
    on_hover: Sequence[str] | None,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[point.coefficient for point in points],
            y=list(means),
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 10},
            error_y={
                "type": "data",
                "array": [_reach(each, mean, 100.0) for each, mean in zip(scores, means, strict=True)],
                "arrayminus": [_reach(each, mean, 0.0) for each, mean in zip(scores, means, strict=True)],
                "thickness": 1.2,
            },
            connectgaps=False,
            customdata=None if on_hover is None else list(on_hover),
            hovertemplate="%{y:.1f}" if on_hover is None else "%{y:.1f}<br>%{customdata}",
        )
    )


def _reach(scores: Sequence[float | None], mean: float | None, bound: float) -> float | None:
    """How far the bar goes from the mean towards `bound`; None where fewer than two scores have no spread."""
    known = [score for score in scores if score is not None]
    return min(1.96 * stdev(known) / sqrt(len(known)), abs(bound - mean)) if len(known) > 1 and mean is not None else None


def _hover(point: DosePoint) -> str:
    return hover.lines(hover.answers(point), hover.push(point), hover.example(point))
