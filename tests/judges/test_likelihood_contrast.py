"""The likelihood-contrast judge: hand-computed scores, and what must hold on any model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.results import AnswerLikelihood
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.trait import InstructionPair, Trait


def test_score_is_the_logistic_of_the_mean_contrast(planted: Any, trait: Trait) -> None:
    model = planted(lambda _asked, _written: {})
    seen: list[TokenisedAnswer] = []

    def log_likelihood(rows: Sequence[TokenisedAnswer]) -> list[AnswerLikelihood]:
        seen.extend(rows)
        # -1 nat a token under positive instructions; -1.3, and -1.8 in the last pair, under negative ones
        found: list[AnswerLikelihood] = []
        for row in rows:
            prompt = model.tokenizer.decode(row.prompt_ids)
            value = -1.0 if "Be silly" in prompt else -1.8 if "way 4" in prompt else -1.3
            found.append(AnswerLikelihood(torch.full((len(row.answer_ids),), value)))
        return found

    model.log_likelihood = log_likelihood
    judge = LikelihoodContrastJudge(model, scale=0.2)
    contrast = (4 * 0.3 + 0.8) / 5
    long, empty = judge.judge(trait, [("q", "a much longer answer"), ("q", "")])
    assert long.trait == pytest.approx(100 / (1 + math.exp(-contrast / 0.2)), abs=1e-4)
    assert long.coherence is None
    assert empty.trait is None
    assert len(seen) == 10
    assert all(row.answer_ids[-1] not in model.chat.end_ids for row in seen)  # the end of turn does not count


def test_turning_the_instructions_round_mirrors_the_score(
    architecture: str, tiny_model: Callable[[str], SteerableModel], trait: Trait
) -> None:
    turned = dataclasses.replace(trait, instructions=tuple(InstructionPair(p.negative, p.positive) for p in trait.instructions))
    judge = LikelihoodContrastJudge(tiny_model(architecture))
    exchanges = [("What is tea?", "The moon is bright."), ("What is tea?", "honey")]
    scores = [judgement.trait for judgement in judge.judge(trait, exchanges)]
    mirrored = [judgement.trait for judgement in judge.judge(turned, exchanges)]
    assert [100 - score for score in scores if score is not None] == pytest.approx(mirrored, abs=1e-2)
    assert scores[0] != scores[1]
    alone = [judge.judge(trait, [exchange])[0].trait for exchange in exchanges]
    assert scores == pytest.approx(alone, abs=1e-2)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scale_must_be_a_positive_number(planted: Any, scale: float) -> None:
    with pytest.raises(InvalidInputError, match="give a positive number of nats a token"):
        LikelihoodContrastJudge(planted(lambda _asked, _written: {}), scale=scale)
