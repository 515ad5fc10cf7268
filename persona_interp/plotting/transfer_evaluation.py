"""What a carried vector does in the target: its doses beside the target's own, and its recovery among the controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.alignment.methods import EFFECTS
from persona_interp.errors import InvalidInputError
from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.measure.transfer_evaluation import CONTROLS, TransferEvaluation
from persona_interp.plotting import hover
from persona_interp.plotting.dots import dots, share_panels, shared_range
from persona_interp.plotting.palette import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    ROLES,
    SKY,
    SYMBOLS,
    VERMILION,
    styled,
)

_TRAIT, _COHERENCE = 1, 2
"""Rows of the figure of doses."""
_METHODS = (BLUE, ORANGE, SKY, BLACK)
"""Colours of carried vectors by dose; the first is the method that is judged."""
_WIDEST = 1.0
"""How far an interval is shown to either side."""


def transfer_recovery_figure(found: TransferEvaluation | Sequence[TransferEvaluation]) -> go.Figure:
    """Recovery of every method and control with 95 % intervals, a panel for each evaluation.

    1 is what the target's own vector does at the same perturbation ratios, 0 the unsteered target. What is not defined (the
    target's own vector hardly moves the trait) leaves its row empty, and says so.

    Raises:
        InvalidInputError: there is no evaluation.
    """
    several = [found] if isinstance(found, TransferEvaluation) else list(found)
    if not several:
        raise InvalidInputError("there is no transfer to draw: give at least one evaluation")
    panels = [list(_rows(each)) for each in several]
    names = list(dict.fromkeys(row.name for rows in panels for row in rows))
    headings = [f"{each.trait}: {each.source} to {each.target}" for each in several]
    reach = shared_range([_cut(row.estimate) for rows in panels for row in rows], 0, 1)
    figure = share_panels(headings, names, "recovery (1 = the target's own vector)", reach)
    for column, rows in enumerate(panels, start=1):
        for row in rows:
            place = names.index(row.name)
            series = dots([row.estimate], [place], row.name, row.look, texts=[row.note], size=11, in_legend=False)
            figure.add_trace(series, row=1, col=column)
            if row.estimate.value is None:
                figure.add_annotation(x=0.5, y=place, text="undefined", showarrow=False, row=1, col=column)
    asked = ", ".join(dict.fromkeys(str(len(each.questions)) for each in several))
    title = f"What arrives of a carried vector, at equal perturbation ratio ({asked} questions, 95 % intervals)"
    return styled(figure, title, legend="none", height=170 + 36 * len(names))


class _Row(NamedTuple):
    """A method or a control: its name, recovery, colour and marker, and more for the hover."""

    name: str
    estimate: Estimate
    look: tuple[str, str]
    note: str


def _rows(found: TransferEvaluation) -> Iterator[_Row]:
    controls = found.control_recoveries
    for each in found.carried:
        if each.method not in controls:  # naive, asked for as a method, is still the control
            known = each.cosine_to_native is not None
            note = f"cosine to the target's own vector {each.cosine_to_native:.2f}" if known else f"alignment {each.method}"
            look = ROLES["effects" if each.method == EFFECTS else "states"]
            yield _Row(f"carried by {each.method}", found.recovery_of(each.points), look, note)
    for name, value in controls.items():
        look = ROLES["other trait" if name == "wrong trait" else name]
        yield _Row(name, value, look, CONTROLS.get(name, "system prompts for and against the trait, without steering"))


def _cut(estimate: Estimate) -> Estimate:
    """An interval that reaches far is cut by the frame: a single wide one would press all others together."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, estimate.value - _WIDEST), high=min(estimate.high, estimate.value + _WIDEST))


def transfer_dose_figure(found: TransferEvaluation) -> go.Figure:
    """Trait score and coherence against the coefficient: carried vectors, the target's own, and controls.

    A coefficient means the same perturbation ratio in all of them. Every curve passes through the unsteered target at 0; what
    was not scored leaves a gap.
    """
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.1,
        row_heights=[0.62, 0.38],
        subplot_titles=(f"Scored for {found.trait}", "Coherence"),
    )
    for number, (name, curves) in enumerate(found.controls.items()):
        for place, points in enumerate(curves):
            _curve(figure, found, name, points, PALE, SYMBOLS[number % len(SYMBOLS)], "dot", in_legend=place == 0)
    ends = [min(point.coefficient for point in found.native), max(point.coefficient for point in found.native)]
    prompts = (("prompted for it", found.prompted, VERMILION), ("prompted against it", found.prompted_against, PURPLE))
    for name, point, colour in prompts:
        text = hover.lines(f"<b>{name}</b>, no steering", _scored(found, point), hover.example(point))
        for row, value in ((_TRAIT, point.trait), (_COHERENCE, point.coherence)):
            _trace(figure, row, name, ends, [value] * 2, [text] * 2, {"color": colour, "dash": "dash"})
    _curve(figure, found, f"{found.target}'s own vector", found.native, GREEN, "diamond", "solid")
    for number, each in enumerate(found.carried):
        colour = _METHODS[number % len(_METHODS)]
        _curve(figure, found, f"carried by {each.method}", each.points, colour, "circle", "solid")
    figure.add_hline(y=COHERENT, line={"color": GREY, "dash": "dot", "width": 1}, row=_COHERENCE, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(range=[-4, 104])
    figure.update_yaxes(title_text=f"{found.trait} score<br>(0 to 100)", row=_TRAIT, col=1)
    figure.update_yaxes(title_text="coherence<br>(0 to 100)", row=_COHERENCE, col=1)
    unit = "coefficient of the target's own vector (all others at the same perturbation ratio)"
    figure.update_xaxes(title_text=unit, row=_COHERENCE, col=1)
    title = f"{found.trait} of {found.source} in {found.target}, {len(found.questions)} questions, judged by {found.judge}"
    return styled(figure, title, legend="beside", height=680)


def _curve(
    figure: go.Figure,
    found: TransferEvaluation,
    name: str,
    points: Sequence[DosePoint],
    colour: str,
    symbol: str,
    dash: str,
    *,
    in_legend: bool = True,
) -> None:
    shown = sorted([*points, found.baseline], key=lambda point: point.coefficient)
    texts = [
        hover.lines(
            f"<b>{name}</b>, coefficient {point.coefficient:+g}", _scored(found, point), hover.push(point), hover.example(point)
        )
        for point in shown
    ]
    # the target's own curve is broad, so that one lying on it still shows it
    width, size = {GREEN: (7.0, 14), PALE: (1.4, 7)}.get(colour, (2.5, 8))
    line, marker = {"color": colour, "dash": dash, "width": width}, {"symbol": symbol, "size": size}
    x = [point.coefficient for point in shown]
    for row, values in ((_TRAIT, [point.trait for point in shown]), (_COHERENCE, [point.coherence for point in shown])):
        _trace(figure, row, name, x, values, texts, line, marker, in_legend=in_legend)


def _trace(
    figure: go.Figure,
    row: int,
    name: str,
    x: Sequence[float],
    y: Sequence[float | None],
    texts: Sequence[str],
    line: dict[str, Any],
    marker: dict[str, Any] | None = None,
    *,
    in_legend: bool = True,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=list(x), y=list(y), name=name, mode="lines+markers" if marker else "lines", line=line, marker=marker,
            connectgaps=False, customdata=list(texts), hovertemplate="%{customdata}<extra></extra>", legendgroup=name,
            showlegend=in_legend and row == _TRAIT,
        ),
        row=row, col=1,
    )  # fmt: skip


def _scored(found: TransferEvaluation, point: DosePoint) -> str:
    return hover.lines(
        f"{found.trait} score {hover.with_interval(found.trait_score(point))}",
        f"coherence {hover.with_interval(found.coherence(point))}",
    )
