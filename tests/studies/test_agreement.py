"""How a judge is compared with the truth: ranks, numbers, intervals over questions, and what is missing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from persona_interp.studies.judges.agreement import agreement, bins

QUESTIONS = [n // 4 for n in range(80)]
CONDITIONS = [f"condition {n % 4}" for n in range(80)]


def noisy(seed: int = 0) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    truth = [25.0 * (n % 4) + rng.uniform(0, 25) for n in range(80)]
    return [min(100.0, max(0.0, value + rng.gauss(0, 20))) for value in truth], truth


def test_the_numbers_are_those_of_scipy_and_scikit_learn() -> None:
    scores, truth = noisy()
    found = agreement(scores, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert found.auroc.value == pytest.approx(roc_auc_score([value >= 50 for value in truth], scores))
    assert found.pearson.value == pytest.approx(pearsonr(scores, truth).statistic)
    assert found.spearman.value == pytest.approx(spearmanr(scores, truth).statistic)
    assert found.mean_error.value == pytest.approx(np.mean(np.abs(np.subtract(scores, truth))))
    for each in (found.auroc, found.pearson, found.spearman, found.mean_error, found.calibration_error):
        assert each.low is not None
        assert each.low <= each.value <= each.high
    assert found.within.value < found.pearson.value, "conditions lie far apart: within one there is less to tell"


def test_calibration_is_of_the_numbers_and_not_of_their_order() -> None:
    _, truth = noisy()
    halved = [value / 2 for value in truth]
    found = agreement(halved, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert (found.auroc.value, found.spearman.value) == (1.0, pytest.approx(1.0))
    assert found.calibration_error.value == pytest.approx(np.mean(truth) / 2)
    exact = agreement(truth, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert (exact.mean_error.value, exact.calibration_error.value) == (0.0, 0.0)


def test_a_judge_that_knows_the_condition_alone_tells_nothing_within_one() -> None:
    rng = random.Random(3)
    _, truth = noisy()
    found = agreement(
        [25.0 * (n % 4) + rng.uniform(0, 5) for n in range(80)], truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0
    )
    assert found.pearson.value > 0.9
    assert found.within.low < 0 < found.within.high


def test_missing_scores_are_counted_and_left_out() -> None:
    scores, truth = noisy()
    holes = [None if place % 10 == 0 else value for place, value in enumerate(scores)]
    found = agreement(holes, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert (found.n, found.n_missing) == (72, 8)
    kept = [place for place in range(80) if place % 10]
    assert found.pearson.value == pytest.approx(pearsonr([scores[p] for p in kept], [truth[p] for p in kept]).statistic)


def test_what_cannot_be_known_is_missing_and_not_zero() -> None:
    scores, truth = noisy()
    one = agreement(scores, truth, questions=[0] * 80, conditions=CONDITIONS, split=50.0)
    assert (one.auroc.low, one.auroc.high) == (None, None), "one question says nothing of others"
    constant = agreement([50.0] * 80, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert constant.pearson.value is None
    assert constant.auroc.value == 0.5
    all_yes = agreement(scores, truth, questions=QUESTIONS, conditions=CONDITIONS, split=0.0)
    assert all_yes.auroc.value is None
    nothing = agreement([None] * 80, truth, questions=QUESTIONS, conditions=CONDITIONS, split=50.0)
    assert (nothing.n, nothing.n_missing, nothing.pearson.value) == (0, 80, None)


def test_bins_pool_by_score() -> None:
    assert bins([1.0, 9.0, 100.0, 95.0, None], [3.0, 5.0, 80.0, 90.0, 1.0]) == [
        {"score": 5.0, "truth": 4.0, "n": 2},
        {"score": 97.5, "truth": 85.0, "n": 2},
    ]
