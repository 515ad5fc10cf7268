"""Effects over questions, and the effect of the best dose on questions it was not picked on.

Intervals are Student's over the questions, of which layer scores have few: of sixteen normal ones, a percentile bootstrap covers
the mean in 91 % of cases rather than 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import UNKNOWN, Estimate, student_reach


def mean_over_questions(values: Any, questions: Sequence[Hashable]) -> Estimate:
    """Mean of what was measured on each answer, with its interval over the questions; `n` counts the answers.

    Args:
        values: one an answer, NaN or None where there is none.
        questions: the question of each, in any order; answers to an equal one count together.

    Raises:
        InvalidInputError: other numbers of values and questions.
    """
    table = _by_question(values, questions)
    mean, variance, n_questions = _mean(table)
    return _estimate(mean, variance, n_questions - 1, int(np.isfinite(table).sum()))


def held_out_best(
    effects: Any, questions: Sequence[Hashable], *, coherence: Any = None, least: float = 0.0, or_nothing: bool = False
) -> tuple[Estimate, ...]:
    """What the best dose of each layer does on questions that it was not picked on, with the interval over questions.

    The mean of the best of several doses is too high on the questions that made it the best. Here the questions are dealt out to
    two halves in turn; the direction and each layer's dose are picked by the mean over one half and measured on the other, both
    ways round, and the two results are averaged (cross-fitting). Where several doses do nothing, or do about as much, the
    interval holds the true effect of what was picked in 92 to 95 % of cases.

    Args:
        effects: ``[direction layer dose answer]``, as nested sequences, an array or a tensor on the CPU; higher is better, NaN
            or None where there is none. Of several directions one holds for all layers: that in which the best layer gains most.
        questions: the question of each answer, in any order; answers to an equal one stay in one half.
        coherence: ``[direction layer dose answer]``, 0-100, NaN or None where it was not judged.
        least: mean coherence in a half below which a dose is not picked there; a dose that nobody judged may be.
        or_nothing: whether a layer where no dose gains anything is left unsteered, an effect of 0.

    Returns:
        One estimate a layer: no value with fewer than two questions, no interval with fewer than four.

    Raises:
        InvalidInputError: shapes that do not agree.
    """
    table, judged = _tables(effects, coherence, questions)
    if table.shape[3] < 2:
        return (UNKNOWN,) * table.shape[1]
    return tuple(_crossed(held) for held in zip(*_held(table, judged, least, or_nothing), strict=True))


def held_out_difference(
    ours: tuple[Any, Any], theirs: tuple[Any, Any], questions: Sequence[Hashable], *, least: float = 0.0
) -> Estimate:
    """What our best dose does beyond theirs, each picked on one half of the questions and compared on the other, both ways round.

    Args:
        ours: effects and coherence, both ``[dose answer]``, as `held_out_best` has them for one layer.
        theirs: likewise, of the same answers; other doses.
        questions: the question of each answer.
        least: mean coherence below which a dose is not picked; where none gains anything the effect is 0.
    """
    sides = [_tables([[effects]], [[coherence]], questions) for effects, coherence in (ours, theirs)]
    if sides[0][0].shape[3] < 2:
        return UNKNOWN
    held = [_held(table, judged, least, or_nothing=True) for table, judged in sides]
    return _crossed([mine[0] - other[0] for mine, other in zip(*held, strict=True)])


def _tables(effects: Any, coherence: Any, questions: Sequence[Hashable]) -> tuple[Any, Any]:
    """Both as ``[direction layer dose question sample]``."""
    table = _by_question(effects, questions)
    if table.ndim != 5:
        raise InvalidInputError(f"effects have {table.ndim - 1} axes: give direction, layer, dose and answer")
    if coherence is None:
        return table, np.full_like(table, np.nan)
    judged = _by_question(coherence, questions)
    if judged.shape != table.shape:
        raise InvalidInputError(f"effects have shape {np.shape(effects)}, coherence {np.shape(coherence)}: give one for each")
    return table, judged


def _held(table: Any, judged: Any, least: float, or_nothing: bool) -> list[list[Any]]:
    """For each half of the questions, each layer's effects there ``[question sample]`` at the dose picked on the other half."""
    halves = [slice(start, None, 2) for start in (0, 1)]
    picked = [_picked(table[:, :, :, half], judged[:, :, :, half], least, or_nothing) for half in halves]
    return [
        [_effect(table[:, layer, :, half], choice) for layer, choice in enumerate(choices)]
        for half, choices in zip(halves, reversed(picked), strict=True)
    ]


def _crossed(held: Sequence[Any]) -> Estimate:
    """The mean of the two halves' means."""
    means = [_mean(part) for part in held]
    mean, variance = sum(part[0] for part in means) / 2, sum(part[1] for part in means) / 4
    # the degrees of freedom of one half: the halves are not independent, since each picks what the other measures
    return _estimate(mean, variance, min(part[2] for part in means) - 1, int(sum(np.isfinite(part).sum() for part in held)))


def _picked(table: Any, judged: Any, least: float, or_nothing: bool) -> list[tuple[int, int] | None]:
    """(direction, dose) of each layer by the means over these questions; dose -1 where nothing is best, None where unknown."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gains, coherent = _answer_mean(table), _answer_mean(judged)
    gains = np.where(np.isnan(gains) | (coherent < least), -np.inf, gains)
    direction = int(gains.max(axis=(1, 2)).argmax())
    choices: list[tuple[int, int] | None] = []
    for doses, known in zip(gains[direction], np.isfinite(table[direction]).any(axis=(1, 2, 3)), strict=True):
        best = int(doses.argmax())
        if or_nothing and known and doses[best] <= 0:
            best = -1
        choices.append((direction, best) if best < 0 or math.isfinite(doses[best]) else None)
    return choices


def _effect(table: Any, choice: tuple[int, int] | None) -> Any:
    """``[direction dose question sample]`` -> ``[question sample]``: the effect of what was picked elsewhere."""
    if choice is None:
        return np.full(table.shape[2:], np.nan)
    direction, dose = choice
    return table[direction, dose] if dose >= 0 else np.zeros(table.shape[2:])


def _by_question(values: Any, questions: Sequence[Hashable]) -> Any:
    """``[... answer]`` -> ``[... question sample]``, padded with NaN where questions have other numbers of answers."""
    array = np.asarray(values, dtype=float)  # None becomes NaN
    if array.ndim == 0 or array.shape[-1] != len(questions):
        raise InvalidInputError(f"values of shape {array.shape} for {len(questions)} answers: name the question of each answer")
    places: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question, []).append(place)
    table = np.full((*array.shape[:-1], len(places), max(map(len, places.values()), default=0)), np.nan)
    for row, own in enumerate(places.values()):
        table[..., row, : len(own)] = array[..., own]
    return table


def _answer_mean(table: Any) -> Any:
    """``[... question sample]`` -> ``[...]``, the mean over the answers there are."""
    return np.nansum(table, axis=(-1, -2)) / np.isfinite(table).sum(axis=(-1, -2))


def _mean(table: Any) -> tuple[float, float, int]:
    """Mean over the answers, its variance by questions (a ratio of two sums over them), and how many questions have one."""
    counts = np.isfinite(table).sum(axis=1)
    n = int((counts > 0).sum())
    if not n:
        return math.nan, math.nan, 0
    mean = float(_answer_mean(table))
    away = np.nansum(table, axis=1) - mean * counts
    return mean, float((away**2).sum()) * n / (n - 1) / float(counts.sum()) ** 2 if n > 1 else math.nan, n


def _estimate(mean: float, variance: float, freedom: int, n: int) -> Estimate:
    if math.isnan(mean):
        return UNKNOWN
    if math.isnan(variance) or freedom < 1:
        return Estimate(mean, None, None, n)
    reach = student_reach(math.sqrt(variance), freedom)
    return Estimate(mean, mean - reach, mean + reach, n)
