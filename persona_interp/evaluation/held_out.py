"""Effects over questions, and the effect of the best dose on questions it was not picked on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from persona_interp.errors import InvalidInputError
from persona_interp.evaluation.bootstrap import QuestionBootstrap, Scores
from persona_interp.evaluation.statistics import Estimate


def mean_over_questions(values: Scores, questions: Sequence[Hashable]) -> Estimate:
    """Mean of what was measured on each answer, with its interval over the questions.

    Args:
        values: one an answer; None or NaN where there is none.
        questions: the question of each, in any order; answers with an equal one are resampled together.

    Raises:
        InvalidInputError: other numbers of values and questions.
    """
    table = _by_question(np.asarray([np.nan if value is None else value for value in values], dtype=float), questions)
    return _interval(table)


def held_out_best(
    effects: Any, questions: Sequence[Hashable], *, coherence: Any = None, least: float = 0.0, or_nothing: bool = False
) -> tuple[Estimate, ...]:
    """What the best dose of each layer does on questions that it was not picked on, with the interval over questions.

    The mean of the best of several doses is too high on the questions that made it the best. Here each question in turn is left
    out, the direction and each layer's dose are picked by the mean over the other questions, and the question is given the effect
    that it has at that dose: leave-one-out cross-fitting, so that no answer speaks for a choice it took part in.

    Args:
        effects: ``[direction layer dose answer]``, as nested sequences, an array or a tensor on the CPU; higher is better, NaN
            where there is none. Of several directions the one holds for all layers in which the best layer gains most.
        questions: the question of each answer; equal ones are left out and resampled together.
        coherence: ``[direction layer dose answer]``, 0-100, NaN where it was not judged; a dose without any counts as coherent.
        least: mean coherence on the other questions below which a dose is not picked.
        or_nothing: whether a layer where no dose gains anything on the other questions is left unsteered, an effect of 0.

    Returns:
        One estimate a layer; no value with fewer than two questions, of which none could be left out.

    Raises:
        InvalidInputError: shapes that do not agree.
    """
    table = _by_question(effects, questions)
    if table.ndim != 5:
        raise InvalidInputError(f"effects have {table.ndim - 1} axes: give direction, layer, dose and answer")
    n_questions = table.shape[-2]
    if n_questions < 2:
        return (Estimate(None, None, None, 0),) * table.shape[1]
    gains = _without_each(table)
    if coherence is not None:
        judged = _without_each(_by_question(coherence, questions))
        gains = np.where(judged < least, np.nan, gains)
    if or_nothing:
        nothing = np.zeros_like(table[:, :, :1])
        table = np.concatenate([nothing, table], axis=2)
        gains = np.concatenate([nothing[..., 0], gains], axis=2)
    gains = np.where(np.isnan(gains), -np.inf, gains)  # [direction layer dose question]
    direction = gains.max(axis=(1, 2)).argmax(axis=0)
    asked = np.arange(n_questions)
    dose = gains.argmax(axis=2)[direction, :, asked]  # [question layer]
    found: list[Estimate] = []
    for layer in range(table.shape[1]):
        held = table[direction, layer, dose[:, layer], asked]
        unpicked = np.isneginf(gains[direction, layer, dose[:, layer], asked])
        found.append(_interval(np.where(unpicked[:, None], np.nan, held)))
    return tuple(found)


def _by_question(values: Any, questions: Sequence[Hashable]) -> Any:
    """``[... answer]`` -> ``[... question sample]``, padded with NaN where questions have other numbers of answers."""
    array = np.asarray(values, dtype=float)
    if array.shape[-1] != len(questions):
        raise InvalidInputError(f"{array.shape[-1]} answers of {len(questions)} questions: name the question of each answer")
    places: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question, []).append(place)
    table = np.full((*array.shape[:-1], len(places), max(map(len, places.values()), default=0)), np.nan)
    for row, own in enumerate(places.values()):
        table[..., row, : len(own)] = array[..., own]
    return table


def _without_each(table: Any) -> Any:
    """``[... question sample]`` -> ``[... question]``: the mean over the answers to all other questions."""
    sums, counts = np.nansum(table, axis=-1), np.isfinite(table).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums.sum(axis=-1, keepdims=True) - sums) / (counts.sum(axis=-1, keepdims=True) - counts)


def _interval(table: Any) -> Estimate:
    n_questions, samples = table.shape
    scores = [None if np.isnan(value) else float(value) for value in table.ravel()]
    return QuestionBootstrap(n_questions, samples).mean(scores)
