"""NaN and infinity between a model and a result: an error that names the model, its dtype and the way out; never a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.judges.coherence import PerplexityCoherence
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge, expected_number
from persona_interp.judges.surprise import surprises
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.finite import check_finite, check_scores
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.conversation import Conversation

TEXTS = [TokenisedAnswer((5, 6, 7, 8, 9), 2), TokenisedAnswer((5, 6, 7), 1)]
IDS = [[5, 6, 7], [8, 9]]
ALL = InterventionGraph((Capture("answer"),))
ASKED = [("What is tea?", "Tea is a drink.")]

SILLY = dataclasses.replace(load_trait("silly"), rubric="How silly is it?\nQuestion: {question}\nAnswer: {answer}")

VERBS: dict[str, Callable[[SteerableModel], Any]] = {
    "next token": lambda model: model.next_token_logits(IDS),
    "walk": lambda model: model.walk(IDS, lambda *_: (), depth=1),
    "likelihood": lambda model: model.log_likelihood(TEXTS),
    "gradient": lambda model: model.likelihood_gradient(TEXTS),
    "unembed": lambda model: model.unembed(torch.full((1, model.d_model), torch.nan)),
    "capture": lambda model: model.capture(TEXTS, ALL),
    "generate": lambda model: model.generate([Conversation.ask("How?")], sampling=Sampling(max_new_tokens=2)),
    "greedy": lambda model: model.generate([Conversation.ask("How?")], sampling=Sampling(max_new_tokens=2, temperature=0)),
    "surprise": lambda model: surprises(model, ASKED),
    "rubric judge": lambda model: LogprobJudge(model, coherence_rubric=None).judge(SILLY, ASKED),
    "contrast judge": lambda model: LikelihoodContrastJudge(model).judge(SILLY, ASKED),
    "perplexity judge": lambda model: PerplexityCoherence(model).judge(SILLY, ASKED),
}


def broken(hf_model: Any, how: str) -> None:
    weight = hf_model.model.layers[1].mlp.down_proj.weight.data
    if how == "NaN":
        weight[0, 0] = torch.nan
    elif how == "infinite":
        weight.fill_(torch.inf)
    else:
        hf_model.half()
        weight = hf_model.model.layers[1].mlp.down_proj.weight.data
        weight.fill_(60000.0)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", ["NaN", "infinite", "overflow of float16"])
def test_no_verb_and_no_judge_makes_a_number_of_it(tiny_hf: Callable[[str], tuple[Any, Any]], verb: str, how: str) -> None:
    hf_model, tokenizer = tiny_hf("llama")
    broken(hf_model, how)
    model = SteerableModel(hf_model, tokenizer, name="broken")
    dtype, way = ("float16", "load it in bfloat16 or float32") if "16" in how else ("float32", "its weights are damaged")
    with pytest.raises(PersonaInterpError, match=rf"broken \(in {dtype}\) are NaN or infinite.*{way}"):
        VERBS[verb](model)


def test_a_token_may_be_impossible_but_not_every_one() -> None:
    impossible = torch.tensor([[0.0, -torch.inf]])
    assert check_scores(impossible, "next token", "m") is impossible
    assert check_scores(torch.zeros(0, 5), "next token", "m").shape == (0, 5)
    for wrong in (torch.nan, torch.inf):
        with pytest.raises(PersonaInterpError, match="next token: the logits at 1 of 2 places of m are NaN or infinite"):
            check_scores(torch.tensor([[0.0, 1.0], [0.0, wrong]]), "next token", "m")
    with pytest.raises(PersonaInterpError, match="at 1 of 1 places"):
        check_scores(torch.full((1, 2), -torch.inf), "next token", "m")
    with pytest.raises(PersonaInterpError, match="2 of 3 numbers of m .in float16. are NaN"):
        check_finite(torch.tensor([1.0, torch.nan, -torch.inf]), "numbers", "m", torch.float16)


def test_nan_among_the_probabilities_of_numbers_is_no_score() -> None:
    assert expected_number({0: float("nan"), 100: 0.5}) is None
