"""The judge protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.traits import Judge, Judgement, Trait, load_trait


class LengthJudge:
    """Scores an answer by its length: any class with a name and the method is a judge."""

    name = "length"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(min(100.0, float(len(answer))), None) for _, answer in exchanges]


def test_a_class_with_the_method_is_a_judge() -> None:
    judge: Judge = LengthJudge()
    assert isinstance(judge, Judge)
    assert judge.judge(load_trait("silly"), [("Q?", "four")]) == [Judgement(trait=4.0, coherence=None)]


@pytest.mark.parametrize("score", [-0.1, 100.5, math.nan, math.inf])
def test_scores_outside_the_scale_are_refused(score: float) -> None:
    with pytest.raises(InvalidInputError, match="trait score .* is outside 0..100"):
        Judgement(trait=score, coherence=None)
    with pytest.raises(InvalidInputError, match="coherence score"):
        Judgement(trait=None, coherence=score)


def test_the_ends_of_the_scale_and_no_score_are_fine() -> None:
    assert Judgement(0.0, 100.0) != Judgement(None, None)
