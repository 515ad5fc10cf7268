"""Judges beside their controls, and their scores against the truth where there are answers enough."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.studies.judges.judge_validation import GuardCount, JudgeScores, JudgeValidation
from persona_interp.studies.plotting.judges import judges_figure

N = 20
TRUTH = tuple(100.0 * (n % 2) for n in range(N))
HALF = tuple(50.0 for _ in range(N))
GIVEN = (*(90.0 if truth else 10.0 for truth in TRUTH[:-1]), 55.0)


def validation(name: str = "organism-a") -> JudgeValidation:
    judges = [
        JudgeScores(judge, target, GIVEN if judge in ("contrast", "perplexity") else HALF)
        for target, judge in (("trait", "contrast"), ("coherence", "perplexity"))
    ]
    controls = [JudgeScores(control, target, HALF) for target in ("trait", "coherence") for control in ("length", "shuffled")]
    conditions, questions = (tuple(str(n % number) for n in range(N)) for number in (4, 5))
    return JudgeValidation(
        "silly", ModelIdentity(name, None, name, 2, 4), 1, conditions, questions, TRUTH, TRUTH, (*judges, *controls),
        GuardCount(1, 1, 1, 0),
    )  # fmt: skip


def test_the_area_of_judge_and_controls_stands_in_the_row_of_its_model() -> None:
    figure = judges_figure([validation(), validation("organism-b")])
    assert list(figure.layout.yaxis.ticktext) == ["a, silly", "b, silly"]
    areas = {(trace.name, trace.xaxis): list(trace.x) for trace in figure.data if trace.mode == "markers"}
    assert areas["judge", "x"] == [1.0, 1.0]
    assert areas["length", "x2"] == [0.5, 0.5]
    assert len(areas) == 6


def test_scores_are_pooled_and_points_of_few_answers_left_out() -> None:
    figure = judges_figure([validation()])
    (pooled,) = [trace for trace in figure.data if trace.name == "silly, all models" and trace.xaxis == "x3"]
    assert list(pooled.x) == [10.0, 90.0]
    assert list(pooled.y) == [0.0, 100.0]
    assert list(pooled.customdata) == [10, 9]


def test_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no validation"):
        judges_figure([])
