"""Intervals over questions: what would have come out had other questions of the same kind been asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from persona_interp.measure.statistics import CONFIDENCE, Estimate

RESAMPLES = 2000
_UNDEFINED = 0.05
"""Largest share of resamples a statistic may be undefined in and still have an interval."""

Scores: TypeAlias = Sequence[float | None]
CurveStatistic: TypeAlias = Callable[[Any, Any], Any]
"""(x ``[points]``, y ``[resample points]`` with NaN where there is no score) -> ``[resample]``, NaN where undefined."""


class QuestionBootstrap:
    """A percentile bootstrap that draws whole questions, with all answers to them, and the same ones under every condition.

    Scores are given as 0-100 for each answer, or None, question by question: all samples of the first, then of the second. With
    one question there is no interval, for nothing says how questions differ.

    Args:
        n_questions: questions asked.
        samples: answers to each.
        seed: of the resampling.
    """

    def __init__(self, n_questions: int, samples: int, *, seed: int = 0) -> None:
        self.n_questions, self.samples = n_questions, samples
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_questions, np.full(n_questions, 1 / n_questions), size=RESAMPLES) if n_questions > 1 else None
        self._weights: Any = None if drawn is None else drawn.astype(float)

    def mean(self, scores: Scores) -> Estimate:
        """Mean over the answers that have a score; `n` counts them."""
        observed, resampled = self._means(scores)
        return self._estimate(observed, resampled, _count(scores))

    def difference(self, scores: Scores, other: Scores) -> Estimate:
        """Mean of `scores` minus mean of `other`, on the same questions in every resample; `n` counts answers of `scores`."""
        (observed, resampled), (less, resampled_less) = self._means(scores), self._means(other)
        return self._estimate(observed - less, None if resampled is None else resampled - resampled_less, _count(scores))

    def over_curve(self, x: Sequence[float], scores: Sequence[Scores], statistic: CurveStatistic) -> Estimate:
        """A statistic of x and the mean scores there; `n` counts the points that have a score."""
        means = [self._means(each) for each in scores]
        places = np.asarray(x, dtype=float)
        observed = np.asarray([[value for value, _ in means]])
        drawn = None if self._weights is None else np.stack([resampled for _, resampled in means], axis=1)
        value = float(statistic(places, observed)[0])
        return self._estimate(value, None if drawn is None else statistic(places, drawn), int(np.isfinite(observed).sum()))

    def _means(self, scores: Scores) -> tuple[float, Any]:
        """The observed mean and its resamples; NaN where no answer has a score."""
        table = np.asarray([np.nan if score is None else score for score in scores], dtype=float)
        table = table.reshape(self.n_questions, self.samples)
        sums, counts = np.nansum(table, axis=1), np.isfinite(table).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            observed = float(np.float64(sums.sum()) / counts.sum())
            return observed, None if self._weights is None else (self._weights @ sums) / (self._weights @ counts)

    def _estimate(self, value: float, resampled: Any, n: int) -> Estimate:
        if not np.isfinite(value):
            return Estimate(None, None, None, n)
        if resampled is None:
            return Estimate(value, None, None, n)
        resampled = np.where(np.isfinite(resampled), resampled, np.nan)  # a share of nothing is infinite, and no number either
        if np.isnan(resampled).mean() > _UNDEFINED:
            return Estimate(value, None, None, n)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        return Estimate(value, float(low), float(high), n)


def slope(x: Any, y: Any) -> Any:
    """Least-squares slope of y on x, row by row; NaN with fewer than two points."""
    left, right = _deviations(x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (left * right).sum(axis=1) / (left * left).sum(axis=1)


def correlation(x: Any, y: Any) -> Any:
    """Pearson's r, row by row; NaN with fewer than three points or where one side does not vary."""
    left, right = _deviations(x, y)
    size = np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))
    enough = (np.isfinite(y).sum(axis=1) >= 3) & (size > 1e-9)
    return np.where(enough, (left * right).sum(axis=1) / np.where(size > 1e-9, size, 1.0), np.nan)


def rank_correlation(x: Any, y: Any) -> Any:
    """Spearman's, likewise; means that differ by rounding alone are tied."""
    from scipy.stats import rankdata

    y = np.round(y, 9)
    x = np.where(np.isnan(y), np.nan, np.broadcast_to(x, y.shape))
    ranks = [rankdata(side, axis=1, nan_policy="omit") for side in (x, y)]
    return correlation(*ranks)


def _deviations(x: Any, y: Any) -> tuple[Any, Any]:
    """Both sides minus their means over the points that have a y; 0 where there is none."""
    known = np.isfinite(y)
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    left, right = np.where(known, x, 0.0), np.where(known, y, 0.0)
    centred = (side - side.sum(axis=1, keepdims=True) / counts for side in (left, right))
    left, right = (np.where(known, side, 0.0) for side in centred)
    return left, right


def answers_each(provenance: Mapping[str, Any], n_answers: int) -> int:
    """Answers to each question, as a result records them; 1 where they do not divide `n_answers`, which then count alone."""
    samples = int(provenance.get("samples", 1))
    return samples if samples > 0 and n_answers % samples == 0 else 1


def _count(scores: Scores) -> int:
    return sum(score is not None for score in scores)
