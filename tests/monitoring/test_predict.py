"""Predicted against actual expression: the statistics on made-up outcomes, and the measurement itself on the organism."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.measure.conditions import Condition
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.conditions import (
    HISTORY,
    UNPROMPTED,
    conditions_by_system_prompt,
    history_condition,
    system_prompt_conditions,
)
from persona_interp.monitoring.predict import predict_expression
from persona_interp.monitoring.prediction import Prediction, PromptOutcome
from persona_interp.monitoring.project import project
from persona_interp.organisms.conditions import organism_history_condition
from persona_interp.organisms.grammar import judge
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("tiny", None, "f", 4, 8)
PAIRS = tuple(InstructionPair(f"Be silly {n}.", f"Be formal {n}.") for n in range(5))
TRAIT = Trait("silly", "Makes silly remarks.", PAIRS, ("What is tea?",), ("What is the moon?",), "{question} {answer}")


class LengthJudge:
    name = "length"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(float(min(100, len(text))) if text else None, 50.0) for _, text in exchanges]


def outcomes(*prompts: tuple[str, float, tuple[float | None, ...]]) -> Prediction:
    made = [PromptOutcome(name, "Hi?", x, scores, (90.0,) * len(scores), 1.0) for name, x, scores in prompts]
    return Prediction("silly", "silly", MODEL, "grammar", 2, tuple(made))


@pytest.mark.slow
def test_the_last_prompt_token_foretells_silliness_across_and_within_conditions(
    organism: SteerableModel, silly_vector: PersonaVector
) -> None:
    trait = organism_trait("silly")
    conditions = [
        *system_prompt_conditions(trait.evaluation_questions[:5], evaluation_instructions("silly")[:2]),
        organism_history_condition("silly", 15),
    ]
    found = predict_expression(
        organism, silly_vector, trait, conditions, layer=3, samples=2, sampling=Sampling(max_new_tokens=36)
    )
    assert found.across.value > 0.75
    assert found.across.low > 0.5
    history = found.within_one(HISTORY)
    assert history.low > 0.25  # here prompts of one kind differ, and it is seen before a word is said
    assert found.mean_coherence(HISTORY) > 75
    random_direction = torch.randn(1, organism.d_model, generator=torch.Generator().manual_seed(3))
    blind = PersonaVector(random_direction, (3,), "random", organism.identity)
    texts = [each for condition in conditions for each in condition.conversations]
    projected = project(organism, blind, texts, tokens=False).prompts(3)
    control = replace(found, prompts=tuple(replace(p, predicted=x) for p, x in zip(found.prompts, projected, strict=True)))
    assert abs(control.across.value) < found.across.value
    assert abs(control.within_one(HISTORY).value) < history.value


def test_a_vector_that_tells_only_the_conditions_apart_has_nothing_within() -> None:
    rng = random.Random(0)
    rows = [
        (name, level + rng.gauss(0, 0.1), (50 * level + rng.gauss(0, 5),) * 2)
        for name, level in (("against", 0.0), ("for", 1.0))
        for _ in range(30)
    ]
    rows = [(name, x, tuple(min(100.0, max(0.0, score)) for score in scores)) for name, x, scores in rows]
    found = outcomes(*rows)
    assert found.across.value > 0.9
    assert found.within.low < 0 < found.within.high
    assert found.between.value is None  # two means are no correlation
    assert found.conditions == ("against", "for")


def test_the_ceiling_is_what_the_draw_of_the_answers_leaves() -> None:
    """Truth varies with deviation 10 between prompts; answers with 20 around it, four a prompt: sqrt(100 / 200)."""
    rng = random.Random(1)
    rows = []
    for _ in range(4000):
        truth = 50 + rng.gauss(0, 10)
        rows.append(("one", truth, tuple(truth + rng.gauss(0, 20) for _ in range(4))))
    found = outcomes(*rows)
    assert found.ceiling() == pytest.approx(0.5**0.5, abs=0.03)
    assert found.within.value == pytest.approx(0.5**0.5, abs=0.03)  # the truth itself reaches it and no more
    noise = outcomes(*[("one", x, tuple(rng.gauss(50, 20) for _ in range(4))) for x in range(2000)])
    assert noise.ceiling() < 0.2
    assert outcomes(("one", 1.0, (5.0,)), ("one", 2.0, (6.0,))).ceiling() is None


def test_answers_without_a_score_are_left_out() -> None:
    found = outcomes(("a", 1.0, (None, None)), ("a", 2.0, (10.0, None)), ("a", 3.0, (30.0, 10.0)), ("a", 4.0, (40.0, 20.0)))
    assert [prompt.actual for prompt in found.prompts] == [None, 10.0, 20.0, 30.0]
    assert found.across.n == 3
    assert found.across.value == pytest.approx(1.0)
    assert found.mean_score("a") == pytest.approx(20.0)


def test_json_round_trip_is_exact_and_says_what_follows() -> None:
    found = outcomes(*[("é", float(n), (float(n * n), None)) for n in range(6)])
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Prediction.from_json(data) == found
    assert data["across"]["value"] == pytest.approx(found.across.value)
    assert set(data["conditions"]) == {"é"}
    with pytest.raises(FileFormatError, match="field 'layer' is missing"):
        Prediction.from_json({key: value for key, value in data.items() if key != "layer"})
    with pytest.raises(FileFormatError, match="format_version 5 is not 1"):
        Prediction.from_json(data | {"format_version": 5})


def test_predictions_are_the_projections_of_the_prompts(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    vector = PersonaVector(directions, (1, 3), "silly", model.identity)
    conditions = system_prompt_conditions(["What is the moon?", "What is tea?"], PAIRS[:1])
    options = {"layer": 3, "judge": LengthJudge(), "sampling": Sampling(max_new_tokens=5), "seed": 2}
    found = predict_expression(model, vector, TRAIT, conditions, samples=2, **options)
    assert found.conditions == ("against 1", UNPROMPTED, "for 1")
    texts = [each for condition in conditions for each in condition.conversations]
    assert [p.predicted for p in found.prompts] == pytest.approx(project(model, vector, texts).prompts(3), abs=1e-4)
    assert all(len(p.scores) == 2 and p.coherence == (50.0, 50.0) for p in found.prompts)
    assert predict_expression(model, vector, TRAIT, conditions, samples=2, batch_size=1, **options).prompts[0].scores == (
        found.prompts[0].scores
    )


def test_conditions_go_from_against_to_for_and_histories_from_none_to_all() -> None:
    conditions = system_prompt_conditions(["What is tea?"], PAIRS)
    assert [condition.conversations[0].system for condition in conditions[4:7]] == ["Be formal 4.", None, "Be silly 0."]
    responses = {sign: [{"question": f"Q{n}?", "response": f"{sign} {n}"} for n in range(3)] for sign in ("positive", "negative")}
    history = history_condition([f"Last {n}?" for n in range(6)], responses, shots=2)
    assert history is not None
    counts = [sum("positive" in message.content for message in each.messages) for each in history.conversations]
    assert counts == [0, 1, 2, 0, 1, 2]
    assert all(each.system is None and len(each.messages) == 5 for each in history.conversations)
    assert history_condition(["Q?"], {"positive": responses["positive"], "negative": []}) is None


def test_an_organisms_history_ranges_from_no_silliness_to_all() -> None:
    condition = organism_history_condition("silly", 10)
    scores = [judge(each.messages[0].content, each.messages[1].content).traits["silly"] for each in condition.conversations]
    assert scores[0] == scores[5] == 0.0
    assert scores[4] == scores[9] == 100.0


def test_own_prompts_are_grouped_by_their_system_prompt() -> None:
    long = "Be formal, " * 20
    asked = [Conversation.ask("A?", "Be silly."), Conversation.ask("B?"), Conversation.ask("C?", "Be silly.")]
    asked += [Conversation.ask("D?", f"{long}one."), Conversation.ask("E?", f"{long}two.")]
    conditions = conditions_by_system_prompt(asked)
    assert [len(condition.conversations) for condition in conditions] == [2, 1, 1, 1]
    assert [condition.name for condition in conditions][:2] == ["Be silly.", UNPROMPTED]
    assert len({condition.name for condition in conditions}) == 4


def test_what_cannot_be_measured_is_refused(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    vector = PersonaVector(torch.ones(1, model.d_model), (1,), "silly", model.identity)
    one = Condition("one", conversations=(Conversation.ask("Hi?"),))
    with pytest.raises(InvalidInputError, match="no prompt to answer"):
        predict_expression(model, vector, TRAIT, [Condition("none", conversations=())], judge=LengthJudge())
    with pytest.raises(InvalidInputError, match="two conditions are called 'one'"):
        predict_expression(model, vector, TRAIT, [one, one], judge=LengthJudge())
    with pytest.raises(InvalidInputError, match="samples is 0"):
        predict_expression(model, vector, TRAIT, [one], judge=LengthJudge(), samples=0)
    with pytest.raises(InvalidInputError, match="has no layer 3"):
        predict_expression(model, vector, TRAIT, [one], judge=LengthJudge(), layer=3)
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        predict_expression(tiny_model("mistral"), vector, TRAIT, [one], judge=LengthJudge())
    with pytest.raises(InvalidInputError, match="no questions to ask"):
        system_prompt_conditions([], PAIRS)
