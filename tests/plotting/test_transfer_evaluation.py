"""Figures of a transfer: recoveries among their controls, and the doses they come from."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.point import DosePoint
from persona_interp.measure.transfer_evaluation import CarriedCurve, TransferEvaluation
from persona_interp.plotting import transfer_dose_figure, transfer_recovery_figure


def point(coefficient: float, mean: float | None) -> DosePoint:
    scores = (None,) * 4 if mean is None else (mean - 2, mean + 2, mean - 1, mean + 1)
    return DosePoint(coefficient, abs(coefficient) / 2, scores, (90.0,) * 4, ("<b>An answer.</b>",))


def curve(low: float | None, high: float | None) -> tuple[DosePoint, ...]:
    return point(-1.0, low), point(1.0, high)


def found(trait: str = "silly", high: float | None = 80.0, native: float = 90.0) -> TransferEvaluation:
    carried = (
        CarriedCurve("effects", {}, curve(20.0, high), 0.8),
        CarriedCurve("ridge", {}, curve(35.0, 50.0), None),
        CarriedCurve("naive", {}, curve(40.0, 40.0), None),
    )
    controls = {"random": (curve(41.0, 39.0), curve(39.0, 41.0)), "shuffled": (curve(40.0, 44.0),)}
    return TransferEvaluation(
        trait, "ours", "theirs", "exact", ("A?", "B?"), 2, 3, point(0.0, 40.0), curve(100 - native, native), carried, controls,
        point(0.0, 95.0), point(0.0, 5.0),
    )  # fmt: skip


def named(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_every_method_and_control_has_a_row_with_its_interval() -> None:
    evaluation = found()
    figure: Any = transfer_recovery_figure(evaluation)
    names = ["carried by effects", "carried by ridge", "random", "shuffled", "naive", "prompt only"]
    assert list(figure.layout.yaxis.ticktext) == names, "naive, asked for as a method, is still the control"
    (trace,) = named(figure, "carried by effects")
    assert trace.x[0] == pytest.approx(evaluation.recovery.value)
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(evaluation.recovery.high)
    assert "cosine to the target's own vector 0.80" in html.unescape(trace.customdata[0])
    assert len({(t.marker.color, t.marker.symbol) for name in names for t in named(figure, name)}) == len(names)


def test_several_evaluations_stand_beside_each_other_and_what_is_undefined_says_so() -> None:
    figure: Any = transfer_recovery_figure([found(), found("honest", native=55.0)])
    assert [note.text for note in figure.layout.annotations[:2]] == ["silly: ours to theirs", "honest: ours to theirs"]
    first, second = named(figure, "carried by effects")
    assert (first.xaxis, second.xaxis) == ("x", "x2")
    assert (first.y, second.x) == (second.y, (None,))
    assert [note.xref for note in figure.layout.annotations if note.text == "undefined"] == ["x2"] * 6
    with pytest.raises(InvalidInputError, match="no transfer to draw"):
        transfer_recovery_figure([])


def test_a_single_wide_interval_does_not_press_the_others_together() -> None:
    wobbly = (point(-1.0, 39.0), DosePoint(1.0, 0.5, (100.0, 100.0, 0.0, 0.0), (90.0,) * 4))
    evaluation = replace(found(), native=curve(20.0, 60.0), controls={"random": (wobbly,)})
    wide = evaluation.control_recoveries["random"]
    assert wide.value - wide.low > 1
    low, high = transfer_recovery_figure(evaluation).layout.xaxis.range
    assert wide.low < low < 0 < wide.value < high


def test_doses_pass_through_the_unsteered_target_and_leave_gaps() -> None:
    figure: Any = transfer_dose_figure(found(high=None))
    score, coherence = named(figure, "carried by effects")
    assert list(score.x) == [-1.0, 0.0, 1.0]
    assert list(score.y) == [20.0, 40.0, None]
    assert list(coherence.y) == [90.0] * 3
    assert "&lt;b&gt;An answer." in score.customdata[0]
    assert [trace.showlegend for trace in named(figure, "random")] == [True, False, False, False]
    assert [list(trace.y) for trace in named(figure, "prompted for it")] == [[95.0] * 2, [90.0] * 2]
    own = named(figure, "theirs's own vector")[0]
    assert own.line.color not in {score.line.color, named(figure, "carried by ridge")[0].line.color}
