"""Causal checks of many attributions at once: what is left of each trait with components ablated, beside controls."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.attribution.check import AblationCheck
from persona_interp.errors import InvalidInputError
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.dots import add_row_lines, dots, lanes, row_axis
from persona_interp.plotting.palette import BLACK, BLUE, ORANGE, PURPLE, ROLES, styled

_SERIES = (
    ("nothing ablated", (BLACK, "circle")),
    ("top components", (BLUE, "diamond")),
    ("top, placebo", (ORANGE, "square")),
    ("random components", ROLES["random"]),
    ("asked against, nothing ablated", (PURPLE, "triangle-up")),
)
_RANDOM = 3
"""Place of the random sets among the series: they are several dots a row."""


def ablations_figure(checks: Sequence[AblationCheck]) -> go.Figure:
    """Trait score under the positive prompts, a row a check: intact, without the top components, and under the controls.

    Intervals (95 %) are over questions; each random set is a dot of its own. A row whose check does not hold says so.

    Raises:
        InvalidInputError: there is no check.
    """
    if not checks:
        raise InvalidInputError("there is no check of an attribution to draw: give at least one")
    rows = [f"{check.model.removeprefix('organism-')}, {check.trait}{'' if check.holds else '<br>not shown'}" for check in checks]
    figure = go.Figure()
    add_row_lines(figure, len(rows), 1)
    for number, ((name, look), lane) in enumerate(zip(_SERIES, lanes(len(_SERIES)), strict=True)):
        points = [(row, check, point) for row, check in enumerate(checks) for point in _points(check)[number]]
        estimates = [_estimate(check, point, alone=number != _RANDOM) for _, check, point in points]
        texts = [f"{check.model}, {check.trait}<br>{_coherence(point)}" for _, check, point in points]
        size = 7 if number == _RANDOM else 9
        figure.add_trace(dots(estimates, [row for row, _, _ in points], name, look, texts=texts, lane=lane, size=size))
    figure.update_xaxes(title_text="trait score (0 to 100)", title_font_size=14, range=[-4, 104], zeroline=False)
    figure.update_yaxes(**row_axis(rows))
    title = "Is what writes along the vector needed? The trait asked for, with components ablated"
    return styled(figure, title, legend="beside", height=150 + 52 * len(rows))


def _points(check: AblationCheck) -> tuple[tuple[DosePoint, ...], ...]:
    """In the order of the series."""
    return (
        (check.baseline,),
        (check.top.point,),
        (check.placebo.point,),
        tuple(arm.point for arm in check.random),
        (check.against,),
    )


def _estimate(check: AblationCheck, point: DosePoint, *, alone: bool) -> Estimate:
    """With its interval, unless other dots of the row show the spread."""
    found = check.score(point)
    return found if alone else Estimate(found.value, None, None, found.n)


def _coherence(point: DosePoint) -> str:
    return "coherence not known" if point.coherence is None else f"coherence {point.coherence:.0f}"
