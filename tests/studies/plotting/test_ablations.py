"""Every check has its row, with what is left of the trait under each condition, and says where it does not hold."""

from __future__ import annotations

import pytest

from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import Component
from persona_interp.errors import InvalidInputError
from persona_interp.measure.point import DosePoint
from persona_interp.studies.plotting.ablations import ablations_figure

HEADS = (Component("head", 1, 0),)


def scored(*scores: float) -> DosePoint:
    return DosePoint(0.0, None, scores, (95.0,) * len(scores), ())


def check(model: str, top: tuple[float, ...]) -> AblationCheck:
    random = tuple(AblationArm(f"random {n}", HEADS, scored(80.0 + n, 90.0 + n, 85.0)) for n in (1, 2))
    arms = AblationArm("top", HEADS, scored(*top)), AblationArm("placebo", HEADS, scored(96.0, 98.0, 97.0))
    return AblationCheck(
        "silly", model, "grammar", 1, scored(100.0, 99.0, 98.0), scored(0.0, 1.0, 2.0), *arms, random, ("A?", "B?", "C?"), 1
    )


SHOWN, NOT_SHOWN = check("organism-a", (10.0, 20.0, 15.0)), check("organism-b", (95.0, 99.0, 90.0))


def test_each_condition_stands_at_its_score_in_the_row_of_its_check() -> None:
    figure = ablations_figure([SHOWN, NOT_SHOWN])
    drawn = {trace.name: trace for trace in figure.data}
    assert list(drawn["top components"].x) == pytest.approx([15.0, 94.667], abs=1e-3)
    assert [round(y) for y in drawn["top components"].y] == [0, 1]
    assert list(drawn["nothing ablated"].x) == [99.0, 99.0]
    assert list(drawn["asked against, nothing ablated"].x) == [1.0, 1.0]
    assert "coherence 95" in drawn["top, placebo"].customdata[0]


def test_every_random_set_is_a_dot_of_its_own_without_an_interval() -> None:
    (random,) = [trace for trace in ablations_figure([SHOWN]).data if trace.name == "random components"]
    assert list(random.x) == pytest.approx([85.667, 86.333], abs=1e-3)
    assert list(random.error_x.array) == [None, None]


def test_a_row_says_where_the_check_does_not_hold() -> None:
    assert (SHOWN.holds, NOT_SHOWN.holds) == (True, False)
    assert list(ablations_figure([SHOWN, NOT_SHOWN]).layout.yaxis.ticktext) == ["a, silly", "b, silly<br>not shown"]


def test_no_check_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no check"):
        ablations_figure([])
