"""What a picked dose is said to do rests on questions it was not picked on, and on no more questions than there were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from persona_interp.errors import InvalidInputError
from persona_interp.measure.held_out import held_out_best, mean_over_questions
from persona_interp.measure.statistics import Estimate

Z = 1.96


def answers(rng: Any, effects: Any, n: int = 16) -> Any:
    """``[dose answer]``: true effects, noise of their own and what the questions share."""
    return effects[:, None] + rng.normal(size=(len(effects), n)) + 0.5 * rng.normal(size=n)


def holds(found: Estimate, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def coverage(effects: Any, interval: Callable[[Any], tuple[Estimate, float]]) -> tuple[float, float]:
    """Share of intervals that hold the true effect, and mean distance of the value from it."""
    rng = np.random.default_rng(0)
    found = [interval(answers(rng, effects)) for _ in range(400)]
    return (
        float(np.mean([holds(estimate, truth) for estimate, truth in found])),
        float(np.mean([(estimate.value or 0.0) - truth for estimate, truth in found])),
    )


def test_of_eight_doses_that_do_nothing_the_best_is_not_said_to_do_something() -> None:
    nothing = np.zeros(8)
    covered, bias = coverage(nothing, lambda table: (held_out_best(table[None, None], range(16))[0], 0.0))
    assert covered > 0.91
    assert abs(bias) < 0.05

    def after_picking(table: Any) -> tuple[Estimate, float]:
        best = table[table.mean(axis=1).argmax()]
        reach = Z * best.std(ddof=1) / 4
        return Estimate(best.mean(), best.mean() - reach, best.mean() + reach, 16), 0.0

    covered, bias = coverage(nothing, after_picking)
    assert covered < 0.87, "the interval this replaces"
    assert bias > 0.25


def test_where_one_dose_works_nothing_is_lost_by_holding_out() -> None:
    covered, bias = coverage(np.eye(8)[3] * 3, lambda table: (held_out_best(table[None, None], range(16))[0], 3.0))
    assert covered > 0.91
    assert abs(bias) < 0.05


def test_a_dose_is_picked_on_one_half_and_measured_on_the_other() -> None:
    first, second = [9.0, 1.0, 9.0, 1.0], [2.0, 6.0, 2.0, 6.0]  # questions 0 and 2 would pick the first dose, 1 and 3 the second
    found = held_out_best([[[first, second]]], range(4))[0]
    assert found == Estimate(1.5, 1.5, 1.5, 4), "each is measured where it does little: 1 on the one half, 2 on the other"
    assert held_out_best([[[first, second]]], [0, 0, 1, 1])[0].value == pytest.approx(5.0), "questions, not answers, are dealt"


def test_samples_of_one_question_are_not_counted_as_questions() -> None:
    rng = np.random.default_rng(1)
    once = rng.normal(size=12)
    often, questions = np.repeat(once, 5), np.repeat(np.arange(12), 5)
    narrow, wide = (mean_over_questions(often, range(60)), mean_over_questions(often, questions.tolist()))
    assert wide.value == pytest.approx(narrow.value)
    assert wide.n == 60
    single = mean_over_questions(once, range(12))
    assert (wide.low, wide.high) == (pytest.approx(single.low), pytest.approx(single.high))
    reach = t.ppf(0.975, 11) * once.std(ddof=1) / np.sqrt(12)
    assert single.high == pytest.approx(once.mean() + reach)
    assert narrow.high is not None
    assert single.high is not None
    assert narrow.high < single.high
    shuffled = rng.permutation(60)
    assert mean_over_questions(often[shuffled], questions[shuffled].tolist()).high == pytest.approx(wide.high)
    held = held_out_best(often[None, None, None], questions.tolist())[0]
    apart = held_out_best(once[None, None, None], range(12))[0]
    assert (held.low, held.high) == (pytest.approx(apart.low), pytest.approx(apart.high))


def test_one_direction_holds_for_all_layers_and_is_picked_on_the_other_half_too() -> None:
    up, down = [[[1.0] * 4], [[8.0] * 4]], [[[5.0] * 4], [[2.0] * 4]]
    assert [found.value for found in held_out_best([up, down], range(4))] == [1.0, 8.0], "the best layer gains most upwards"


def test_doses_that_break_the_model_are_not_picked_and_nothing_may_be_best() -> None:
    effects = [[[[10.0] * 4, [60.0] * 4, [90.0] * 4], [[-5.0] * 4, [-1.0] * 4, [None] * 4]]]
    coherence = [[[[95.0] * 4, [90.0] * 4, [20.0] * 4], [[95.0] * 4, [95.0] * 4, [95.0] * 4]]]
    found = held_out_best(effects, range(4), coherence=coherence, least=75.0, or_nothing=True)
    assert [each.value for each in found] == [60.0, 0.0]
    assert held_out_best(effects, range(4), or_nothing=True)[0].value == 90.0, "nobody judged coherence"
    assert held_out_best(effects, range(4))[1].value == -1.0
    broken = held_out_best([[[[50.0] * 4]]], range(4), coherence=[[[[10.0] * 4]]], least=75.0)
    assert broken[0].value is None
    assert held_out_best([[[[50.0] * 4]]], range(4), coherence=[[[[10.0] * 4]]], least=75.0, or_nothing=True)[0].value == 0.0


def test_too_few_questions_give_no_interval_rather_than_a_wrong_one() -> None:
    assert held_out_best([[[[5.0, 6.0]]]], ["a", "a"]) == (Estimate(None, None, None, 0),)
    assert held_out_best([[[[5.0, 6.0]]]], ["a", "b"]) == (Estimate(5.5, None, None, 2),)
    assert mean_over_questions([5.0, 6.0], ["a", "a"]) == Estimate(5.5, None, None, 2)
    assert mean_over_questions([None, float("nan")], ["a", "b"]).value is None


def test_shapes_that_do_not_agree_are_named() -> None:
    with pytest.raises(InvalidInputError, match="for 3 answers: name the question of each"):
        mean_over_questions([1.0, 2.0], [0, 1, 2])
    with pytest.raises(InvalidInputError, match="effects have 1 axes: give direction, layer, dose and answer"):
        held_out_best([1.0, 2.0], [0, 1])
    with pytest.raises(InvalidInputError, match=r"shape \(1, 1, 1, 2\), coherence \(1, 1, 2\)"):
        held_out_best([[[[1.0, 2.0]]]], [0, 1], coherence=[[[1.0, 2.0]]])
