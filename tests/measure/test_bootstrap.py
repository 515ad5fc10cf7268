"""Intervals over questions: paired, as wide as the questions differ, and missing where nothing can be said."""

from __future__ import annotations

import random

import numpy as np
import pytest

from persona_interp.measure.bootstrap import QuestionBootstrap, correlation, rank_correlation, slope


def test_means_are_over_answers_with_a_score_and_count_them() -> None:
    found = QuestionBootstrap(3, 2).mean([10, 20, None, 40, None, None])
    assert found.value == pytest.approx(70 / 3)
    assert found.n == 3
    assert 10 < found.low < found.value < found.high <= 40


def test_one_question_has_no_interval_however_many_answers() -> None:
    bootstrap = QuestionBootstrap(1, 4)
    assert bootstrap.mean([10, 20, 30, 40]) == type(bootstrap.mean([1, 1, 1, 1]))(25.0, None, None, 4)
    change = bootstrap.difference([10, 20, 30, 40], [0, 0, 0, 0])
    assert (change.value, change.low, change.high) == (25.0, None, None)
    assert bootstrap.over_curve([0, 1], [[0] * 4, [10] * 4], slope).low is None


def test_no_score_at_all_is_no_value_and_few_are_no_interval() -> None:
    bootstrap = QuestionBootstrap(10, 1)
    assert bootstrap.mean([None] * 10).value is None
    lonely = bootstrap.mean([None] * 9 + [50.0])  # in a third of the resamples nothing would be scored
    assert (lonely.value, lonely.low, lonely.n) == (50.0, None, 1)
    assert bootstrap.difference([50.0] * 10, [None] * 10).value is None


def test_samples_of_a_question_are_drawn_together() -> None:
    """Twenty answers, but two questions only: the interval is that of two, not of twenty."""
    scores = [0.0] * 10 + [100.0] * 10
    wide, narrow = QuestionBootstrap(2, 10).mean(scores), QuestionBootstrap(20, 1).mean(scores)
    assert (wide.low, wide.high) == (0.0, 100.0)
    assert narrow.high - narrow.low < 50


def test_a_change_is_paired_question_by_question() -> None:
    rng = random.Random(0)
    before = [rng.uniform(0, 90) for _ in range(30)]
    after = [score + 5 + rng.uniform(-1, 1) for score in before]
    bootstrap = QuestionBootstrap(30, 1)
    change = bootstrap.difference(after, before)
    assert 4 < change.low < 5.5 < change.high + 1
    assert change.high - change.low < 1.5
    alone = bootstrap.mean(after)
    assert alone.high - alone.low > 10  # questions differ far more than the change does


def test_intervals_hold_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(150):
        rng = random.Random(seed)
        found = QuestionBootstrap(30, 1, seed=seed).mean([min(100, max(0, rng.gauss(50, 15))) for _ in range(30)])
        held += found.low <= 50 <= found.high
    assert 0.87 <= held / 150 <= 0.99


def test_statistics_over_a_curve_are_the_textbook_ones() -> None:
    from scipy.stats import linregress, pearsonr, spearmanr

    rng = random.Random(1)
    x = [-2.0, -1.0, 0.0, 0.5, 3.0]
    scores = [[min(100, max(0, 50 + 10 * place + rng.gauss(0, 8))) for _ in range(12)] for place in x]
    means = [float(np.mean(each)) for each in scores]
    bootstrap = QuestionBootstrap(12, 1)
    for statistic, expected in (
        (slope, linregress(x, means).slope),
        (correlation, pearsonr(x, means).statistic),
        (rank_correlation, spearmanr(x, means).statistic),
    ):
        found = bootstrap.over_curve(x, scores, statistic)
        assert found.value == pytest.approx(expected)
        assert found.low <= found.value <= found.high
        assert found.n == 5


def test_points_without_a_score_are_left_out_of_statistics() -> None:
    x = [0.0, 1.0, 2.0, 9.0]
    scores = [[0.0] * 4, [10.0] * 4, [20.0] * 4, [None] * 4]
    bootstrap = QuestionBootstrap(4, 1)
    for statistic, expected in ((slope, 10.0), (correlation, 1.0), (rank_correlation, 1.0)):
        found = bootstrap.over_curve(x, scores, statistic)
        assert found.value == pytest.approx(expected)
        assert found.n == 3


def test_what_is_not_defined_has_no_value() -> None:
    bootstrap = QuestionBootstrap(4, 1)
    flat, steep = [[50.0] * 4] * 3, [[0.0] * 4, [50.0] * 4]
    assert bootstrap.over_curve([0, 1, 2], flat, correlation).value is None
    assert bootstrap.over_curve([0, 1, 2], flat, rank_correlation).value is None
    assert bootstrap.over_curve([0, 1, 2], flat, slope).value == 0.0
    assert bootstrap.over_curve([0, 1], steep, rank_correlation).value is None  # two points are no trend
    assert bootstrap.over_curve([0, 1], steep, slope).value == 50.0
    assert bootstrap.over_curve([0, 1], [[0.0] * 4, [None] * 4], slope).value is None


def test_a_share_of_nothing_in_some_draws_is_no_number_there() -> None:
    """Two of eight questions move the native score: a draw without either has nothing to take a share of."""

    def share(_places: object, means: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return means[:, 0] / means[:, 1]

    carried, native = [10.0] * 8, [30.0, 30.0, *[0.0] * 6]
    found = QuestionBootstrap(8, 1).over_curve([0, 1], [carried, native], share)
    assert found.value == pytest.approx(10 / 7.5)
    assert found.low is None or np.isfinite([found.low, found.high]).all()
