"""The one engine of measurement: conditions in one batch, answers that are kept, and what a protocol refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture
from persona_interp.measure.conditions import Condition, baseline, prompted, steered
from persona_interp.measure.dose import dose_response
from persona_interp.measure.protocol import Protocol, checked_coefficients, split
from persona_interp.measure.run import ANSWERS, Reading, Work, run
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering, Together

TRAIT = Trait(
    name="silly",
    description="Makes silly remarks.",
    instructions=tuple(InstructionPair(f"Be silly {i}.", f"Be formal {i}.") for i in range(5)),
    extraction_questions=("What is tea?",),
    evaluation_questions=("Tell me about the moon?", "How do bees make honey?"),
    rubric="{question} {answer}",
)


class LengthJudge:
    name = "length"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(float(min(100, len(answer))), 90.0) for _, answer in exchanges]


PROTOCOL = Protocol(judge=LengthJudge(), sampling=Sampling(max_new_tokens=6), samples=2, seed=3)


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture
def steering(model: SteerableModel) -> Steering:
    directions = 5 * torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return Steering(PersonaVector(directions, (1, 2), "silly", model.identity, statistics={"resid_norm": (20.0, 80.0)}), (2,))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each generation had."""
    made: list[int] = []
    generate = SteerableModel.generate

    def spy(self: SteerableModel, conversations: Sequence[Conversation], **options: Any) -> Any:
        made.append(len(conversations))
        return generate(self, conversations, **options)

    monkeypatch.setattr(SteerableModel, "generate", spy)
    return made


def test_a_follower_is_told_of_every_answer_as_it_grows_and_of_none_that_is_found(
    model: SteerableModel, steering: Steering, tmp_path: Path
) -> None:
    class Told:
        def __init__(self) -> None:
            self.texts: dict[tuple[int, ...], list[str]] = {}
            self.ends: dict[tuple[int, ...], str] = {}

        def read(self, places: Sequence[int], captured: Any) -> None:
            raise AssertionError("nothing is read")

        def said(self, places: Sequence[int], text: str) -> None:
            self.texts.setdefault(tuple(places), []).append(text)

        def ended(self, places: Sequence[int], answer: Any) -> None:
            self.ends[tuple(places)] = answer.text

    asked = replace(PROTOCOL, folder=tmp_path).asked(model, TRAIT)
    nothing, pushed = Together((steering.at(0.0),)), steering.at(4.0)
    conditions = [baseline(steering), Condition("nothing", nothing), Condition("both", Together((pushed, pushed)))]
    told = Told()
    with Work(asked) as work:
        found = work.answers(model, conditions, follower=told)
    n = len(found[0].texts)
    assert set(told.ends) == {(place, place + n) for place in range(n)} | {(place + 2 * n,) for place in range(n)}
    for places, text in told.ends.items():
        assert all(found[place // n].texts[place % n] == text for place in places)
        assert text.startswith(told.texts[places][0])
    assert nothing.key is None
    assert Together((pushed,)).key == pushed.key != Together((pushed, pushed)).key
    again = Told()
    with Work(asked) as work:
        assert [each.texts for each in work.answers(model, conditions, follower=again)] == [each.texts for each in found]
    assert again.ends == {}


def test_conditions_run_as_one_batch_and_each_is_what_it_gives_alone(
    model: SteerableModel, steering: Steering, calls: list[int]
) -> None:
    asked = PROTOCOL.asked(model, TRAIT)
    conditions = [baseline(steering), *steered("silly", steering, [-4.0, 0.0, 4.0]), *prompted(TRAIT)]
    found = run(model, asked, conditions)
    assert calls == [5 * 4]  # the baseline and coefficient 0 are the same answers
    points = [each.point() for each in found]
    assert points[0] == points[2]
    assert [point.coefficient for point in points] == [0, -4, 0, 4, 0, 0]
    assert points[1].perturbation_ratio == pytest.approx(4 * steering.selected.norms[0] / 80)
    assert points[4].perturbation_ratio is None  # whose vector that is nobody said
    assert points[1].examples == (found[1].texts[0], found[1].texts[2]), "the first answer to each question"
    for condition, whole in zip(conditions, found, strict=True):
        (alone,) = run(model, asked, [condition])
        assert alone.texts == whole.texts
        assert alone.judgements == whole.judgements


def test_what_is_kept_is_not_made_again_and_more_samples_change_no_answer(
    model: SteerableModel, steering: Steering, calls: list[int], tmp_path: Path
) -> None:
    conditions = [baseline(), *steered("silly", steering, [4.0])]
    asked = Protocol(judge=LengthJudge(), sampling=Sampling(6), seed=3, folder=tmp_path).asked(model, TRAIT)
    few = run(model, asked, conditions)
    kept = (tmp_path / ANSWERS).read_bytes()
    with Work(asked) as work:
        again = work.scored(model, conditions)
        assert work.made == {"generated": 0, "judged": 0}
    assert calls == [4]
    assert [each.texts for each in again] == [each.texts for each in few]
    assert [each.n_tokens for each in again] == [each.n_tokens for each in few]
    assert (tmp_path / ANSWERS).read_bytes() == kept
    more = run(model, Protocol.of({"protocol": asked.protocol, "samples": 2}).asked(model, TRAIT), conditions)
    assert calls == [4, 4]
    assert [each.texts[::2] for each in more] == [each.texts for each in few]


def test_conditions_may_sample_otherwise_ask_otherwise_and_be_read(model: SteerableModel, tmp_path: Path) -> None:
    asked = Protocol(judge=LengthJudge(), sampling=Sampling(6), folder=tmp_path).asked(model, TRAIT)
    asks = (Conversation.ask("What is rain?", "Be brief."), Conversation.ask("What is snow?"))
    own = Condition("own", conversations=asks, seeds=tuple(row_seeds(1, 2)))
    short = Condition("short", sampling=Sampling(max_new_tokens=1))
    last = Capture("prompt_last", layers=(1,))
    reading = Reading((last,), lambda answer: [float(answer.captured[last][0, 0])])
    with Work(asked) as work:
        first, second = work.answers(model, [own, short], reading)
    assert first.questions == ("What is rain?", "What is snow?")
    assert first.texts == tuple(each.text for each in model.generate(list(asks), sampling=Sampling(6), seed=row_seeds(1, 2)))
    assert second.n_tokens == 2
    with Work(asked) as work:
        again, _ = work.answers(model, [own, short], reading)
        assert work.n_generated == 0
    assert again.readings == first.readings
    assert len({value for (value,) in first.readings}) == 2


def test_a_function_takes_a_protocol_and_changes_of_it(model: SteerableModel, steering: Steering) -> None:
    named = {"judge": LengthJudge(), "sampling": Sampling(max_new_tokens=6), "samples": 2, "seed": 3}
    plain = dose_response(model, steering.vector, TRAIT, [4.0], layers=[2], **named)
    same = dose_response(model, steering.vector, TRAIT, [4.0], layers=[2], protocol=PROTOCOL)
    assert same.points == plain.points
    fewer = dose_response(model, steering.vector, TRAIT, [4.0], layers=[2], protocol=PROTOCOL, num_prompts=1)
    assert fewer.points[0].trait_scores == plain.points[0].trait_scores[:2]
    with pytest.raises(TypeError, match=r"no option 'temperature': options are batch_size, folder, judge"):
        dose_response(model, steering.vector, TRAIT, [4.0], layers=[2], temperature=1.0)  # pyright: ignore[reportCallIssue]


def test_a_protocol_refuses_what_cannot_be_asked(model: SteerableModel) -> None:
    with pytest.raises(InvalidInputError, match="samples is 0: give at least 1"):
        Protocol(samples=0)
    with pytest.raises(InvalidInputError, match="has no evaluation questions: pass questions"):
        Protocol(questions=[]).asked(model, TRAIT)
    with pytest.raises(InvalidInputError, match="a question is given twice"):
        Protocol(questions=["a", "a"]).asked(model, TRAIT)
    with pytest.raises(InvalidInputError, match="with 0 alone nothing is steered"):
        checked_coefficients([0.0])
    assert checked_coefficients([0.0], steered=False) == (0.0,)
    (kept,) = split({"protocol": Protocol(num_prompts=1), "num_prompts": None}, Protocol)
    assert kept.num_prompts == 1, "a protocol's number of prompts stays where a function was given none"
