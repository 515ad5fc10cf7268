"""How far a judge agrees with the truth: does it rank answers alike, and do its numbers mean what they say?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from persona_interp.measure.bootstrap import correlation, rank_correlation
from persona_interp.measure.statistics import CONFIDENCE, Estimate
from persona_interp.records import Record

RESAMPLES = 500
N_BINS = 10
SPLIT = {"trait": 50.0, "coherence": 70.0}
"""From here on the truth counts as yes: the trait is there (as in the paper's filter); the answer is coherent."""
_ENOUGH = 0.95
"""Share of resamples in which a statistic must be defined to have an interval."""

Statistic: TypeAlias = Callable[[Any, Any], Any]
"""(scores ``[resample answer]``, truth ``[resample answer]``, both NaN where either is missing) -> ``[resample]``."""


@dataclass(frozen=True)
class Agreement(Record):
    """One judge against the truth. Intervals are over questions: all answers to one are drawn together.

    Attributes:
        auroc: probability that an answer which has the quality scores above one which has not (`SPLIT`).
        pearson: correlation of scores and truth.
        spearman: of their ranks.
        within: Pearson's with the mean of each condition taken away from both: does it tell answers of one kind apart?
        mean_error: mean of |score - truth|, in points.
        calibration_error: the same after answers of about equal scores are pooled: mean over ten bins of scores of |mean score -
            mean truth|, weighted by their answers. 0 where a score of 70 means 70 on average.
        n: answers with both a score and a truth.
        n_missing: answers with a truth the judge gave no score.
    """

    json_kind = "agreement"

    auroc: Estimate
    pearson: Estimate
    spearman: Estimate
    within: Estimate
    mean_error: Estimate
    calibration_error: Estimate
    n: int
    n_missing: int


def agreement(
    scores: Sequence[float | None],
    truth: Sequence[float | None],
    *,
    questions: Sequence[Hashable],
    conditions: Sequence[Hashable],
    split: float,
    seed: int = 0,
) -> Agreement:
    """Compare scores with the truth, 0-100 each, None where there is none.

    Args:
        scores: the judge's.
        truth: the exact ones.
        questions: which question each answer is to.
        conditions: under which condition it was given.
        split: truth from here on counts as yes.
        seed: of the resampling.
    """
    x, y = (np.asarray([np.nan if value is None else value for value in side], dtype=float) for side in (scores, truth))
    n_missing = int(np.sum(np.isnan(x) & ~np.isnan(y)))
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
    kinds = np.unique([str(condition) for condition in conditions], return_inverse=True)[1]
    drawn = _resamples(questions, seed)

    def estimate(statistic: Statistic, left: Any = x, right: Any = y) -> Estimate:
        value = float(statistic(left[None], right[None])[0])
        if not np.isfinite(value):
            return Estimate(None, None, None, int(both.sum()))
        if drawn is None:
            return Estimate(value, None, None, int(both.sum()))
        found = _over_resamples(statistic, left, right, drawn)
        if np.isfinite(found).mean() < _ENOUGH:
            return Estimate(value, None, None, int(both.sum()))
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(found, [tail, 1 - tail])
        return Estimate(value, float(low), float(high), int(both.sum()))

    return Agreement(
        auroc=estimate(lambda left, right: _areas(left, right, split)),
        pearson=estimate(correlation),
        spearman=estimate(rank_correlation),
        within=estimate(correlation, _centred(x, kinds), _centred(y, kinds)),
        mean_error=estimate(lambda left, right: _row_means(np.abs(left - right))),
        calibration_error=estimate(_calibration_errors),
        n=int(both.sum()),
        n_missing=n_missing,
    )


def bins(scores: Sequence[float | None], truth: Sequence[float | None]) -> list[dict[str, float]]:
    """Answers pooled by score, ten points a bin: mean score, mean truth and number; empty bins are left out."""
    pairs = [(s, t) for s, t in zip(scores, truth, strict=True) if s is not None and t is not None]
    places = np.asarray([_bin(s) for s, _ in pairs], dtype=int)
    found: list[dict[str, float]] = []
    for number in range(N_BINS):
        members = [pair for pair, place in zip(pairs, places, strict=True) if place == number]
        if members:
            score, true = np.mean(members, axis=0)
            found.append({"score": float(score), "truth": float(true), "n": len(members)})
    return found


def _resamples(questions: Sequence[Hashable], seed: int) -> list[Any] | None:
    """Indices of answers, a resample each; None with one question, which says nothing of others."""
    groups: Mapping[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(question, []).append(place)
    members = [np.asarray(places) for places in groups.values()]
    if len(members) < 2:
        return None
    rng = np.random.default_rng(seed)
    return [np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(RESAMPLES)]


def _over_resamples(statistic: Statistic, x: Any, y: Any, drawn: Sequence[Any]) -> Any:
    longest = max(len(places) for places in drawn)
    left, right = (np.full((len(drawn), longest), np.nan) for _ in range(2))
    for row, places in enumerate(drawn):
        left[row, : len(places)], right[row, : len(places)] = x[places], y[places]
    return statistic(left, right)


def _centred(values: Any, kinds: Any) -> Any:
    found = values.copy()
    for kind in np.unique(kinds):
        own = kinds == kind
        if np.isfinite(values[own]).sum() > 1:
            found[own] = values[own] - np.nanmean(values[own])
        else:
            found[own] = np.nan
    return found


def _row_means(values: Any) -> Any:
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / counts


def _areas(x: Any, y: Any, split: float) -> Any:
    """AUROC, row by row, by the rank sum; NaN where one kind is missing."""
    from scipy.stats import rankdata

    known = np.isfinite(x)
    yes = known & (y >= split)
    n_yes, n_no = yes.sum(axis=1), (known & ~yes).sum(axis=1)
    ranks = rankdata(np.where(known, x, np.inf), axis=1)  # what is missing ranks above all others, whose ranks it leaves alone
    with np.errstate(invalid="ignore"):
        return (np.where(yes, ranks, 0.0).sum(axis=1) - n_yes * (n_yes + 1) / 2) / (n_yes * n_no)


def _calibration_errors(x: Any, y: Any) -> Any:
    known = np.isfinite(x)
    places = np.where(known, _bin(np.where(known, x, 0.0)), -1)
    total = np.zeros(len(x))
    for number in range(N_BINS):
        total += np.abs(np.where(places == number, np.where(known, x, 0.0) - np.where(known, y, 0.0), 0.0).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return total / known.sum(axis=1)


def _bin(score: Any) -> Any:
    return np.minimum(np.floor(np.asarray(score) / (100 / N_BINS)), N_BINS - 1).astype(int)
