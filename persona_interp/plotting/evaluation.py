"""An evaluation: what steering did at each coefficient, among its controls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.evaluation.dose import DosePoint
from persona_interp.evaluation.evaluation import COHERENT, Curve, Evaluation
from persona_interp.evaluation.statistics import Estimate
from persona_interp.plotting import hover
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, VERMILION, styled

_TRAIT, _COHERENCE, _OTHER = 1, 2, 3
"""Rows of the figure."""


def evaluation_figure(evaluation: Evaluation) -> go.Figure:
    """Dose-response curves with their controls, in three panels over the coefficient.

    At the top the trait score of the steered model with 95 % intervals, random directions and another trait's vector at the same
    norms, and as level lines the unsteered model, plain and prompted. Below coherence, with the usable coefficients shaded; then
    the steered answers scored for another trait. What was not scored leaves a gap. Every vector at coefficient 0 is the unsteered
    model, so that all curves pass through it.
    """
    other = evaluation.controls.other_trait
    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.075,
        row_heights=[0.46, 0.27, 0.27],
        subplot_titles=(
            f"Scored for {evaluation.trait}",
            f"Coherence (shaded: the steered model stays at {COHERENT:g} or above)",
            f"The steered answers scored for {other.name} instead: a specific vector leaves it alone",
        ),
    )
    _levels(figure, evaluation)
    _controls(figure, evaluation)
    _steered(figure, evaluation)
    usable = evaluation.coherent_range
    if usable is not None and usable.low < usable.high:
        figure.add_vrect(x0=usable.low, x1=usable.high, fillcolor=GREEN, opacity=0.1, line_width=0, row=_COHERENCE, col=1)  # pyright: ignore[reportArgumentType]
    figure.add_hline(y=COHERENT, line={"color": GREY, "dash": "dot", "width": 1}, row=_COHERENCE, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(range=[-4, 104])
    for row, name in ((_TRAIT, f"{evaluation.trait} score"), (_COHERENCE, "coherence"), (_OTHER, f"{other.name} score")):
        figure.update_yaxes(title_text=f"{name}<br>(0 to 100)", row=row, col=1)
    figure.update_xaxes(title_text=_coefficient_axis(evaluation), row=_OTHER, col=1)
    layers = ", ".join(map(str, evaluation.layers))
    where = f"layer {layers}" if len(evaluation.layers) == 1 else f"layers {layers}"
    asked = f"{len(evaluation.questions)} questions, 95 % intervals"
    title = f"{evaluation.vector} vector added to {evaluation.model} at {where}, judged by {evaluation.judge}, {asked}"
    return styled(figure, title, legend="beside", height=1000)


def _coefficient_axis(evaluation: Evaluation) -> str:
    known = [point for point in evaluation.results if point.coefficient and point.perturbation_ratio]
    if not known:
        return "coefficient (multiples of the vector; 0 = unsteered)"
    unit = (known[0].perturbation_ratio or 0.0) / abs(known[0].coefficient)
    return f"coefficient (multiples of the vector; 0 = unsteered, 1 = {unit:.2g} of the mean residual norm)"


def _steered(figure: go.Figure, evaluation: Evaluation) -> None:
    points = evaluation.curve
    name, colour = f"{evaluation.vector} vector", BLUE
    on_hover = [_result(evaluation, point) for point in points]
    measured = (
        (_TRAIT, points, [evaluation.trait_score(point) for point in points], on_hover),
        (_COHERENCE, points, [evaluation.coherence(point) for point in points], on_hover),
        (_OTHER, *_other_trait(evaluation)),
    )
    for row, shown, estimates, texts in measured:
        figure.add_trace(
            go.Scatter(
                x=[point.coefficient for point in shown],
                y=[estimate.value for estimate in estimates],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5},
                marker={"symbol": "circle", "size": 9},
                error_y={
                    "type": "data",
                    "array": [_reach(estimate.high, estimate.value) for estimate in estimates],
                    "arrayminus": [_reach(estimate.low, estimate.value) for estimate in estimates],
                    "thickness": 1.4,
                },
                connectgaps=False,
                customdata=texts,
                hovertemplate=f"<b>{name}</b><br>%{{customdata}}<extra></extra>",
                legendgroup=name,
                showlegend=row == _TRAIT,
            ),
            row=row,
            col=1,
        )


def _other_trait(evaluation: Evaluation) -> tuple[list[DosePoint], list[Estimate], list[str]]:
    """The answers of the curve, scored for the other trait."""
    points = sorted(evaluation.controls.other_trait.points, key=lambda point: point.coefficient)
    estimates = [evaluation.trait_score(point) for point in points]
    name = evaluation.controls.other_trait.name
    texts = [
        hover.lines(
            f"coefficient {point.coefficient:+g}" if point.coefficient else "unsteered",
            f"{name} score {hover.with_interval(estimate)}",
            f"change {hover.with_interval(evaluation.change(point, evaluation.other_baseline))} points",
        )
        for point, estimate in zip(points, estimates, strict=True)
    ]
    return points, estimates, texts


def _result(evaluation: Evaluation, point: DosePoint) -> str:
    steered = bool(point.coefficient)
    return hover.lines(
        f"coefficient {point.coefficient:+g}" if steered else "unsteered",
        hover.push(point) if steered else "",
        f"{evaluation.trait} score {hover.with_interval(evaluation.trait_score(point))}",
        f"change {hover.with_interval(evaluation.change(point))} points" if steered else "",
        f"coherence {hover.with_interval(evaluation.coherence(point))}",
        hover.answers(point),
        hover.example(point),
    )


def _levels(figure: go.Figure, evaluation: Evaluation) -> None:
    """The unsteered model as level lines: as it is, and under the trait's own prompts."""
    controls = evaluation.controls
    places = [point.coefficient for point in evaluation.curve]
    ends = [min(places), max(places)]
    levels = (
        ("unsteered", controls.baseline, GREY, "dot"),
        ("prompted for it", controls.prompted, VERMILION, "dash"),
        ("prompted against it", controls.prompted_against, PURPLE, "dashdot"),
    )
    for name, point, colour, dash in levels:
        score, coherence = evaluation.trait_score(point), evaluation.coherence(point)
        text = hover.lines(
            f"<b>{name}</b>, no steering",
            f"{evaluation.trait} score {hover.with_interval(score)}",
            f"coherence {hover.with_interval(coherence)}",
            hover.example(point),
        )
        for row, estimate in ((_TRAIT, score), (_COHERENCE, coherence)):
            _line(figure, row, name, ends, [estimate.value] * 2, colour, dash, [text] * 2)
    base = evaluation.trait_score(evaluation.other_baseline)
    text = f"unsteered<br>{controls.other_trait.name} score {hover.with_interval(base)}"
    _line(figure, _OTHER, "unsteered", ends, [base.value] * 2, GREY, "dot", [text] * 2)


def _controls(figure: go.Figure, evaluation: Evaluation) -> None:
    """Other directions of the same norms: random ones, and another trait's."""
    controls = evaluation.controls
    random = "random direction" if len(controls.random) == 1 else f"{len(controls.random)} random directions"
    for number, curve in enumerate(controls.random):
        _curve(figure, evaluation, curve, random, PALE, "solid", first=number == 0)
    _curve(figure, evaluation, controls.other_vector, f"{controls.other_vector.name} vector", ORANGE, "longdash", first=True)


def _curve(figure: go.Figure, evaluation: Evaluation, curve: Curve, name: str, colour: str, dash: str, *, first: bool) -> None:
    points = sorted((evaluation.controls.baseline, *curve.points), key=lambda point: point.coefficient)
    texts = [hover.lines(f"<b>{curve.name}, same norm</b>", _result(evaluation, point)) for point in points]
    draw = partial(_line, figure, name=name, x=[p.coefficient for p in points], colour=colour, dash=dash, texts=texts)
    draw(row=_TRAIT, y=[point.trait for point in points], in_legend=first, markers=True)
    draw(row=_COHERENCE, y=[point.coherence for point in points], in_legend=False, markers=True)


def _line(
    figure: go.Figure,
    row: int,
    name: str,
    x: Sequence[float],
    y: Sequence[float | None],
    colour: str,
    dash: str,
    texts: Sequence[str],
    *,
    in_legend: bool | None = None,
    markers: bool = False,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            name=name,
            mode="lines+markers" if markers else "lines",
            line={"color": colour, "dash": dash, "width": 1.6},
            marker={"size": 5, "symbol": "diamond"},
            connectgaps=False,
            customdata=list(texts),
            hovertemplate="%{customdata}<extra></extra>",
            legendgroup=name,
            showlegend=row == _TRAIT if in_legend is None else in_legend,
        ),
        row=row,
        col=1,
    )


def _reach(end: float | None, value: float | None) -> float | None:
    return None if end is None or value is None else abs(end - value)
