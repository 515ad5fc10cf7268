"""`Estimate`, and how well one number tells another, or tells two kinds apart: correlations and AUROC, each with an interval.

All intervals are 95 %, and over questions wherever answers to questions were scored: by a bootstrap that draws questions
(`bootstrap`) for what is measured at given doses; Student's, with the dose picked on other questions than it is measured on
(`held_out`), for scores of layers; and joined by how much single directions differ for controls of several (`recovery`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from persona_interp.records import Record

CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate(Record):
    """A statistic with its 95 % interval.

    Attributes:
        value: None where it is not defined: too few pairs, or one side does not vary.
        low: end of the interval; None where there is none.
        high: likewise.
        n: pairs it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


UNKNOWN = Estimate(None, None, None, 0)
"""A statistic that nothing was measured of, or that is not defined."""


def student_reach(deviation: float, freedom: int) -> float:
    """Half the width of Student's 95 % interval of a mean whose standard deviation was estimated."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * deviation


def pearson(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Pearson's correlation; the interval is Fisher's, from four pairs on."""
    from scipy.stats import pearsonr

    if not _vary(x, y):
        return Estimate(None, None, None, len(x))
    found: Any = pearsonr(x, y)
    if len(x) < 4:
        return Estimate(float(found.statistic), None, None, len(x))
    interval = found.confidence_interval(CONFIDENCE)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), len(x))


def spearman(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> Estimate:
    """Spearman's rank correlation; the interval is a percentile bootstrap over pairs, from ten pairs on."""
    from scipy.stats import bootstrap, spearmanr

    if not _vary(x, y):
        return Estimate(None, None, None, len(x))
    value = float(spearmanr(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    if len(x) < 10:
        return Estimate(value, None, None, len(x))
    resampled: Any = bootstrap(
        (np.asarray(x), np.asarray(y)), _rank_correlation, paired=True, vectorized=False, n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    interval = resampled.confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(x))


def pearson_within(x: Sequence[float], y: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """Pearson's correlation of what is left of both when each group's mean is taken away.

    That is the partial correlation given the group; Fisher's interval has one degree of freedom less for each group beyond the
    first. Groups of one pair say nothing and are left out.
    """
    from scipy.stats import norm

    sizes = {group: list(groups).count(group) for group in dict.fromkeys(groups)}
    kept = [place for place, group in enumerate(groups) if sizes[group] > 1]
    named = [groups[place] for place in kept]
    n, n_groups = len(kept), len(set(named))
    left = _centred([x[place] for place in kept], named)
    right = _centred([y[place] for place in kept], named)
    if not _vary(left, right):
        return Estimate(None, None, None, n)
    value = float(np.dot(left, right) / math.sqrt(np.dot(left, left) * np.dot(right, right)))
    freedom = n - n_groups - 2
    if freedom < 1 or abs(value) >= 1:
        return Estimate(value, None, None, n)
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) / math.sqrt(freedom)
    return Estimate(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach), n)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> Estimate:
    """Probability that a positive scores above a negative, ties counting half.

    The interval is Newcombe's (2006, Statistics in Medicine 25:559, method 5), which inverts the variance of Hanley and McNeil
    and so does not shrink to nothing where the two kinds are told apart without a fault.
    """
    from scipy.stats import mannwhitneyu

    m, n = len(positive), len(negative)
    if not m or not n:
        return Estimate(None, None, None, m + n)
    value = float(mannwhitneyu(positive, negative).statistic) / (m * n)
    return Estimate(value, _auroc_end(value, m, n, -1), _auroc_end(value, m, n, 1), m + n)


def _auroc_end(value: float, m: int, n: int, side: int) -> float:
    """Where the area lies whose own standard error reaches back to `value`."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    extra = (m + n) / 2 - 1

    def distance(area: float) -> float:
        spread = area * (1 - area) * (1 + extra * ((1 - area) / (2 - area) + area / (1 + area))) / (m * n)
        return (area - value) * side - z * math.sqrt(max(0.0, spread))

    end = 1.0 if side > 0 else 0.0
    if value == end:
        return end
    inside = value + side * 1e-9  # where every area is 0 or 1 there is no spread, and `value` itself would be an answer
    return float(brentq(distance, inside, end))  # pyright: ignore[reportArgumentType]


def _rank_correlation(x: Any, y: Any) -> float:
    """Spearman's; 0 for a resample in which one side does not vary."""
    from scipy.stats import rankdata

    left, right = rankdata(x), rankdata(y)
    left, right = left - left.mean(), right - right.mean()
    size = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / size if size > 0 else 0.0


def _centred(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    of_group: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        of_group.setdefault(group, []).append(value)
    means = {group: math.fsum(members) / len(members) for group, members in of_group.items()}
    return [value - means[group] for value, group in zip(values, groups, strict=True)]


def _vary(x: Sequence[float], y: Sequence[float]) -> bool:
    """Whether both sides vary, beyond rounding, over at least three pairs."""
    return len(x) >= 3 and all(max(side) - min(side) > 1e-12 * max(1.0, *map(abs, side)) for side in (x, y))
