"""An evaluation: what steering did at each coefficient, among its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.measure.evaluation import COHERENT, Curve, Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting import hover
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, VERMILION, styled

_TRAIT, _COHERENCE, _OTHER = 1, 2, 3
"""Rows of the figure."""


def evaluation_figure(evaluation: Evaluation | Sequence[Evaluation], *, specificity: bool = True) -> go.Figure:
    """Dose-response curves with their controls over the coefficient, in panels below each other; a column an evaluation.

    At the top the trait score of the steered model with 95 % intervals, random directions and another trait's vector at the same
    norms, and as level lines the unsteered model, plain and prompted. Below coherence, with the usable coefficients shaded; then
    the steered answers scored for another trait. What was not scored leaves a gap. Every vector at coefficient 0 is the unsteered
    model, so that all curves pass through it.

    Args:
        evaluation: one, or several of one model to stand beside each other.
        specificity: whether there is a panel for the other trait.

    Raises:
        InvalidInputError: none was given, or they are of several models.
    """
    columns = [evaluation] if isinstance(evaluation, Evaluation) else list(evaluation)
    models = list(dict.fromkeys(each.model for each in columns))
    if len(models) != 1:
        raise InvalidInputError(f"one figure shows evaluations of one model, and was given {', '.join(models) or 'none'}")
    heights = [0.46, 0.27, 0.27] if specificity else [0.6, 0.4]
    figure = make_subplots(
        rows=len(heights),
        cols=len(columns),
        shared_xaxes=True,
        vertical_spacing=0.075,
        horizontal_spacing=0.07,
        row_heights=heights,
        subplot_titles=[_panel_title(row, each, len(columns)) for row in range(1, len(heights) + 1) for each in columns],
    )
    figure.update_annotations(font_size=16 if len(columns) == 1 else 14)
    for column, each in enumerate(columns, start=1):
        _column(_Place(figure, each, column, len(heights), alone=len(columns) == 1))
    figure.update_yaxes(range=[-4, 104])
    judges = ", ".join(dict.fromkeys(each.judge for each in columns))
    asked = ", ".join(dict.fromkeys(f"{len(each.questions)} questions" for each in columns))
    vectors = " and ".join(dict.fromkeys(each.vector for each in columns))
    where = dict.fromkeys(", ".join(map(str, each.layers)) for each in columns)
    layers = f"layer{'s' if any(',' in each for each in where) else ''} {' and '.join(where)}"
    noun = "vector" if len(columns) == 1 else "vectors"
    judged = f"judged by {judges}, " if len(columns) == 1 else ""  # the caption has more room
    title = f"{vectors} {noun} added to {models[0]} at {layers}, {judged}{asked}, 95 % intervals"
    return styled(figure, title, legend="beside", height=1000 if specificity else 700)


def _panel_title(row: int, evaluation: Evaluation, n_columns: int) -> str:
    other = evaluation.controls.other_trait.name
    if row == _TRAIT:
        return f"Scored for {evaluation.trait}"
    if row == _COHERENCE:
        usable = f"the steered model stays at {COHERENT:g} or above" if n_columns == 1 else f"{COHERENT:g} or above"
        return f"Coherence (shaded: {usable})"
    return (
        f"The steered answers scored for {other} instead: a specific vector leaves it alone" if n_columns == 1 else f"For {other}"
    )


@dataclass(frozen=True)
class _Place:
    """The column of a figure that one evaluation is drawn into; ``alone`` if there is no other."""

    figure: go.Figure
    evaluation: Evaluation
    column: int
    n_rows: int
    alone: bool

    def add(self, trace: go.Scatter, row: int) -> None:
        """Draw `trace` if the figure has such a row; only the first column enters the legend."""
        if row <= self.n_rows:
            if self.column > 1:
                trace.update(showlegend=False)
            self.figure.add_trace(trace, row=row, col=self.column)

    def vector_name(self, trait: str, whose: str) -> str:
        """Of one vector in the legend, which several evaluations share."""
        return f"{trait} vector" if self.alone else f"{whose} vector"


def _column(place: _Place) -> None:
    """One evaluation."""
    figure, evaluation = place.figure, place.evaluation
    _levels(place)
    _controls(place)
    _steered(place)
    usable = evaluation.coherent_range
    if usable is not None and usable.low < usable.high:
        where: dict[str, Any] = {"row": _COHERENCE, "col": place.column}
        figure.add_vrect(x0=usable.low, x1=usable.high, fillcolor=GREEN, opacity=0.1, line_width=0, **where)
    line = {"color": GREY, "dash": "dot", "width": 1}
    figure.add_hline(y=COHERENT, line=line, row=_COHERENCE, col=place.column)  # pyright: ignore[reportArgumentType]
    named = ((_TRAIT, evaluation.trait), (_COHERENCE, ""), (_OTHER, evaluation.controls.other_trait.name))
    for row, trait in named[: place.n_rows]:
        name = f"{trait} score" if trait and place.alone else "score" if trait else "coherence"
        if place.column == 1:
            figure.update_yaxes(title_text=f"{name}<br>(0 to 100)", row=row, col=1)
    figure.update_xaxes(title_text=_coefficient_axis(evaluation, place.alone), row=place.n_rows, col=place.column)
    if not place.alone:
        figure.update_xaxes(title_font_size=13, col=place.column)
        figure.update_yaxes(title_font_size=13, col=place.column)


def _coefficient_axis(evaluation: Evaluation, alone: bool) -> str:
    known = [point for point in evaluation.results if point.coefficient and point.perturbation_ratio]
    if not known:
        return "coefficient (multiples of the vector; 0 = unsteered)"
    unit = (known[0].perturbation_ratio or 0.0) / abs(known[0].coefficient)
    what = "coefficient (multiples of the vector; 0 = unsteered," if alone else "coefficient (0 = unsteered,<br>"
    return f"{what} 1 = {unit:.2g} of the mean residual norm)"


def _steered(place: _Place) -> None:
    evaluation = place.evaluation
    points = evaluation.curve
    name, colour = place.vector_name(evaluation.vector, "the trait's"), BLUE
    on_hover = [_result(evaluation, point) for point in points]
    measured = (
        (_TRAIT, points, [evaluation.trait_score(point) for point in points], on_hover),
        (_COHERENCE, points, [evaluation.coherence(point) for point in points], on_hover),
        (_OTHER, *_other_trait(evaluation)),
    )
    for row, shown, estimates, texts in measured:
        place.add(
            go.Scatter(
                x=[point.coefficient for point in shown],
                y=[estimate.value for estimate in estimates],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5},
                marker={"symbol": "circle", "size": 9},
                error_y=interval_bars(estimates),
                connectgaps=False,
                customdata=texts,
                hovertemplate=f"<b>{name}</b><br>%{{customdata}}<extra></extra>",
                legendgroup=name,
                showlegend=row == _TRAIT,
            ),
            row,
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


def _levels(place: _Place) -> None:
    """The unsteered model as level lines: as it is, and under the trait's own prompts."""
    evaluation, controls = place.evaluation, place.evaluation.controls
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
            _line(place, row, name, ends, [estimate.value] * 2, colour, dash, [text] * 2)
    base = evaluation.trait_score(evaluation.other_baseline)
    text = f"unsteered<br>{controls.other_trait.name} score {hover.with_interval(base)}"
    _line(place, _OTHER, "unsteered", ends, [base.value] * 2, GREY, "dot", [text] * 2)


def _controls(place: _Place) -> None:
    """Other directions of the same norms: random ones, and another trait's."""
    controls = place.evaluation.controls
    random = "random direction" if len(controls.random) == 1 else f"{len(controls.random)} random directions"
    for number, curve in enumerate(controls.random):
        _curve(place, curve, random, PALE, "solid", first=number == 0)
    other = place.vector_name(controls.other_vector.name, "another trait's")
    _curve(place, controls.other_vector, other, ORANGE, "longdash", first=True)


def _curve(place: _Place, curve: Curve, name: str, colour: str, dash: str, *, first: bool) -> None:
    evaluation = place.evaluation
    points = sorted((evaluation.controls.baseline, *curve.points), key=lambda point: point.coefficient)
    texts = [hover.lines(f"<b>{curve.name}, same norm</b>", _result(evaluation, point)) for point in points]
    draw = partial(_line, place, name=name, x=[p.coefficient for p in points], colour=colour, dash=dash, texts=texts)
    draw(row=_TRAIT, y=[point.trait for point in points], in_legend=first, markers=True)
    draw(row=_COHERENCE, y=[point.coherence for point in points], in_legend=False, markers=True)


def _line(
    place: _Place,
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
    place.add(
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
        row,
    )
