"""Correlations and AUROC: their values, and intervals that cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, pearsonr

from persona_interp.measure.statistics import Estimate, auroc, pearson, pearson_within, spearman


def test_pearson_and_spearman_on_known_data() -> None:
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert pearson(x, [2.0, 4.0, 6.0, 8.0, 10.5]).value == pytest.approx(0.9986, abs=1e-3)
    assert spearman(x, [1.0, 8.0, 27.0, 64.0, 99.0]).value == pytest.approx(1.0)
    found = pearson(x, [5.0, 3.0, 4.0, 2.0, 1.0])
    assert found.low < found.value < found.high < 0


def test_what_does_not_vary_has_no_correlation() -> None:
    for found in (pearson([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), spearman([1.0, 2.0], [2.0, 1.0]), pearson([], [])):
        assert found.value is None
        assert str(found) == "–"
    assert pearson([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).low is None


def test_within_groups_what_lies_between_them_does_not_count() -> None:
    """Between groups x and y rise together, within each they fall: the two correlations have opposite signs."""
    x = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
    y = [2.0, 1.0, 0.0, 12.0, 11.0, 10.0]
    groups = ["a", "a", "a", "b", "b", "b"]
    assert pearson(x, y).value > 0.9
    assert pearson_within(x, y, groups).value == pytest.approx(-1.0)
    assert pearson_within([1.0, 2.0], [1.0, 2.0], ["a", "b"]).value is None  # one pair a group


def test_within_is_the_correlation_of_centred_values() -> None:
    rng = np.random.default_rng(0)
    groups = [place // 10 for place in range(60)]
    x = rng.normal(size=60) + np.repeat(rng.normal(size=6) * 5, 10)
    y = 0.5 * x + rng.normal(size=60)
    centred = [v - np.repeat(v.reshape(6, 10).mean(1), 10) for v in (x, y)]
    found = pearson_within(list(x), list(y), groups)
    assert found.value == pytest.approx(pearsonr(*centred).statistic)
    wider = pearsonr(*centred).confidence_interval()
    assert found.low < wider.low  # six means were estimated, and the interval says so
    assert found.high > wider.high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    groups = [place // 8 for place in range(40)]
    hits = within = area = 0
    separation = 1.5
    expected = norm.cdf(separation / np.sqrt(2))
    for _ in range(400):
        x = rng.normal(size=40)
        y = 0.6 * x + 0.8 * rng.normal(size=40)
        found = pearson(list(x), list(y))
        hits += found.low < 0.6 < found.high
        shifts = np.repeat(rng.normal(size=5) * 4, 8)
        found = pearson_within(list(x + shifts), list(y - shifts), groups)
        within += found.low < 0.6 < found.high
        found = auroc(list(rng.normal(size=25) + separation), list(rng.normal(size=60)))
        area += found.low < expected < found.high
    for covered in (hits, within, area):
        assert 0.92 * 400 < covered <= 0.985 * 400


def test_auroc_counts_ties_half_and_a_perfect_one_still_has_an_interval() -> None:
    assert auroc([1.0, 2.0], [1.0, 0.0]).value == pytest.approx(0.875)
    perfect = auroc([2.0] * 20, [1.0] * 100)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.85 < perfect.low < 1.0
    worst = auroc([1.0] * 20, [2.0] * 100)
    assert (worst.low, worst.high) == (0.0, pytest.approx(1 - perfect.low))
    assert auroc([], [1.0]).value is None


def test_json_round_trip() -> None:
    for found in (Estimate(0.5, 0.1, 0.9, 10), Estimate(None, None, None, 0)):
        assert Estimate.from_json(found.to_json()) == found
    assert str(Estimate(0.5, 0.1, 0.9, 10)) == "0.50 [0.10, 0.90]"
