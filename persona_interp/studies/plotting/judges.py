"""Judges against the truth the grammar knows: do they tell answers apart, and do their numbers mean what they say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.dots import add_row_lines, dots, lanes, row_axis
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, ROLES, VERMILION, styled
from persona_interp.studies.judges.agreement import SPLIT, bins
from persona_interp.studies.judges.judge_validation import CONTROLS, TARGETS, JudgeValidation

_LOOKS = {"length": (GREY, "x"), "shuffled": ROLES["shuffled"]}
_JUDGE = (BLUE, "circle")
_TRAITS = ((VERMILION, "diamond", "solid"), (GREEN, "square", "dash"), (ORANGE, "star", "dot"), (PURPLE, "cross", "dashdot"))
_ENOUGH = 5
"""Answers from which on a point of the calibration is drawn."""


def judges_figure(found: Sequence[JudgeValidation]) -> go.Figure:
    """How well judges tell answers that have a quality from those that have not, and their scores against the exact ones.

    Above, the AUROC beside controls: 0.5 is chance. Below, scores pooled over ten points of score, where there are at least five
    answers: the diagonal is a judge whose 70 means 70. The judge of the trait is on the left, that of coherence on the right.

    Raises:
        InvalidInputError: there is no validation.
    """
    if not found:
        raise InvalidInputError("there is no validation of a judge to draw: give at least one")
    names = [f"{each.model.name.removeprefix('organism-')}, {each.trait}" for each in found]
    judges = {target: next(j.judge for j in found[0].judges if j.target == target and not j.control) for target in TARGETS}
    figure = make_subplots(
        rows=2,
        cols=2,
        shared_yaxes="rows",  # pyright: ignore[reportArgumentType]
        horizontal_spacing=0.04,
        vertical_spacing=0.15,
        row_heights=[0.52, 0.48],
        subplot_titles=[f"{judge}: is the {target} {SPLIT[target]:g} or more?" for target, judge in judges.items()],
    )
    for column, target in enumerate(TARGETS, start=1):
        series = ((judges[target], "judge", _JUDGE), *((control, control, _LOOKS[control]) for control in CONTROLS))
        for (judge, name, look), lane in zip(series, lanes(len(series)), strict=True):
            areas = [each.of(judge, target).auroc for each in found]
            marks = dots(areas, range(len(found)), name, look, texts=names, lane=lane, size=8, in_legend=column == 1)
            figure.add_trace(marks, row=1, col=column)
        add_row_lines(figure, len(found), column)
        _calibration(figure, found, target, judges[target], column)
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col="all")  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(**row_axis(names), row=1)
    figure.update_xaxes(title_text="AUROC (0.5 = chance)", title_font_size=14, range=[0, 1.03], zeroline=False, row=1)
    figure.update_xaxes(title_text="judge's score", title_font_size=14, range=[-3, 103], row=2)
    figure.update_yaxes(range=[-3, 103], row=2)
    figure.update_yaxes(title_text="mean exact score", title_font_size=14, row=2, col=1)
    return styled(figure, "Judges against exact scores", legend="beside", height=900)


def _calibration(figure: go.Figure, found: Sequence[JudgeValidation], target: str, judge: str, column: int) -> None:
    figure.add_shape(type="line", x0=0, y0=0, x1=100, y1=100, line={"color": GREY, "dash": "dot", "width": 1}, row=2, col=column)
    pairs = [(each.scores_of(judge, target), each.truth(target)) for each in found]
    for number, (each, pair) in enumerate(zip(found, pairs, strict=True)):
        name = f"{each.model.name.removeprefix('organism-')}, {each.trait}"
        line = _pooled(*pair, name, {"color": PALE, "width": 1}, "circle", 4)
        line.update(legendgroup="one model", showlegend=column == 1 and number == 0, name="one model")
        figure.add_trace(line, row=2, col=column)
    for trait, (colour, symbol, dash) in zip(dict.fromkeys(each.trait for each in found), _TRAITS, strict=False):
        mine = [pair for each, pair in zip(found, pairs, strict=True) if each.trait == trait]
        scores, truth = ([value for pair in mine for value in pair[side]] for side in (0, 1))
        line = _pooled(scores, truth, f"{trait}, all models", {"color": colour, "width": 2.5, "dash": dash}, symbol, 9)
        line.update(legendgroup=trait, showlegend=column == 1)
        figure.add_trace(line, row=2, col=column)


def _pooled(
    scores: Sequence[float | None], truth: Sequence[float | None], name: str, line: Mapping[str, Any], symbol: str, size: int
) -> go.Scatter:
    """Mean exact score of the answers in every ten points of score, where there are enough of them."""
    pooled = [one for one in bins(scores, truth) if one["n"] >= _ENOUGH]
    return go.Scatter(
        x=[one["score"] for one in pooled],
        y=[one["truth"] for one in pooled],
        name=name,
        mode="lines+markers",
        line=dict(line),
        marker={"symbol": symbol, "size": size},
        customdata=[one["n"] for one in pooled],
        hovertemplate=f"{name}<br>judge %{{x:.0f}}, exact %{{y:.0f}}<br>%{{customdata:.0f}} answers<extra></extra>",
    )
