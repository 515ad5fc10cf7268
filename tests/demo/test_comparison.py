"""Baseline and steered answer: two rows of one batch, followed as they are written, and nobody else's business."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.demo.comparison import Answer, Comparison, Scoring, alone, compare
from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.shelf import Shelf
from persona_interp.demo.talk import Talk, answer, drift
from persona_interp.demo.trait_vectors import judge_of, trait_called
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.project import project
from persona_interp.organisms.gguf_export import export_gguf
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

ASKED = Conversation.ask("What do you know about the bicycle?")
SAMPLING = Sampling(max_new_tokens=40)
RandomVector = Callable[..., PersonaVector]


def compared(model: SteerableModel, push: Steering, seed: int = 0, **options: Any) -> tuple[Comparison, list[Comparison]]:
    """What is there at the end, and what was shown on the way."""
    shown: list[Comparison] = []

    def work(job: Job[Comparison]) -> None:
        job.show(compare(job, model, alone(push), (ASKED, ASKED), SAMPLING, seed, Scoring(**options), shown.append))

    found = Job(work).start().result()
    assert found is not None
    return found, shown


def test_the_answers_are_those_the_library_gives(model: SteerableModel, random_vector: RandomVector) -> None:
    vector = random_vector(model)
    found, _ = compared(model, Steering(vector, (3,), 1.0), seed=5)
    plain = model.generate([ASKED], sampling=SAMPLING, seed=[5])[0]
    steered = model.generate([ASKED], graph=vector.graph(1.0, layers=[3]), sampling=SAMPLING, seed=[5])[0]
    assert [each.text for each in found.answers] == [plain.text, steered.text]
    assert plain.text != steered.text
    assert found.baseline.finished == plain.finished


def test_values_are_projections_before_anything_is_added(model: SteerableModel, random_vector: RandomVector) -> None:
    vector = random_vector(model)
    found, shown = compared(model, Steering(vector, (3,), 1.0))
    seen = project(model, vector, [Chat.of(ASKED.question, found.baseline.text)], layers=[3]).chats[0].turns[0]
    expected = seen.values[0][seen.n_prompt_tokens :]
    n = min(len(expected), len(found.baseline.values))
    torch.testing.assert_close(torch.tensor(found.baseline.values[:n]), torch.tensor(expected[:n]), atol=1e-2, rtol=1e-3)
    assert "".join(found.steered.tokens) == found.steered.text
    # at coefficient 0 nothing is added, so both answers and their values are equal
    still, _ = compared(model, Steering(vector, (3,), 0.0))
    assert still.baseline == still.steered
    assert len(shown) > 20


def test_tokens_and_values_grow_together_while_the_answers_are_written(
    model: SteerableModel, random_vector: RandomVector
) -> None:
    found, shown = compared(model, Steering(random_vector(model), (3,), 1.0))
    for side in (0, 1):
        lengths = [len(each.answers[side].tokens) for each in shown]
        assert lengths == sorted(lengths)
        for each in shown[:-2]:
            part = each.answers[side]
            assert "".join(part.tokens) == part.text
            assert part.finished is None
            assert len(part.values) in (len(part.tokens), max(0, len(part.tokens) - 1), max(0, len(part.tokens) - 2))
            assert part.values == pytest.approx(found.answers[side].values[: len(part.values)], abs=1e-4)
        assert any(0 < len(each.answers[side].values) < 10 for each in shown)


def test_scores_are_exact_on_an_organism_and_missing_ones_are_explained(
    model: SteerableModel, random_vector: RandomVector
) -> None:
    trait = trait_called(model, "silly")
    found, _ = compared(model, Steering(random_vector(model), (3,), 0.0), trait=trait, judge=lambda: judge_of(model, trait))
    (expected,) = judge_of(model, trait).judge(trait, [(ASKED.question, found.baseline.text)])
    assert (found.baseline.trait, found.baseline.coherence) == (expected.trait, expected.coherence)
    assert (found.judge, found.note) == ("grammar", "")
    unscored, _ = compared(model, Steering(random_vector(model, trait="odd"), (3,), 0.0))
    assert (unscored.judge, unscored.baseline.trait) == ("", None)
    assert "no trait here" in unscored.note


def test_two_doses_and_dose_zero_are_one_batch_and_each_what_it_is_alone(
    model: SteerableModel, random_vector: RandomVector
) -> None:
    vector = random_vector(model)
    shown: list[Comparison] = []

    def work(job: Job[Comparison]) -> None:
        pushes = alone(Steering(vector, (3,), 1.0), Steering(vector, (3,), 0.0))
        job.show(compare(job, model, pushes, (ASKED,) * 3, SAMPLING, 5, Scoring(), shown.append))

    found = Job(work).start().result()
    expected, _ = compared(model, Steering(vector, (3,), 1.0), seed=5)
    assert found is not None
    assert (found.baseline, found.steered) == (expected.baseline, expected.steered)
    assert found.second == found.baseline
    assert all(each.second == each.baseline for each in shown)


def test_two_sessions_at_once_get_what_each_gets_alone(model: SteerableModel, random_vector: RandomVector) -> None:
    pushes = [Steering(random_vector(model, seed), (2 + seed,), 1.0) for seed in range(3)]
    expected = [compared(model, push, seed=number)[0] for number, push in enumerate(pushes)]
    together: list[Comparison | None] = [None] * len(pushes)
    failed: list[BaseException] = []

    def visit(number: int) -> None:
        try:
            for _ in range(3):
                together[number] = compared(model, pushes[number], seed=number)[0]
                assert together[number] == expected[number]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(len(pushes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == []
    assert together == expected


def test_a_stopped_comparison_ends_within_a_few_tokens_and_leaves_the_model_clean(
    model: SteerableModel, random_vector: RandomVector
) -> None:
    push = Steering(random_vector(model), (3,), 1.0)
    before = model.generate([ASKED], sampling=SAMPLING, seed=[1])[0]
    shown: list[Comparison] = []

    def work(job: Job[Comparison]) -> None:
        def show(found: Comparison) -> None:
            shown.append(found)
            if len(shown) == 10:
                job.stop()
            job.show(found)

        long = Sampling(max_new_tokens=400, temperature=5.0)
        compare(job, model, alone(push), (ASKED, ASKED), long, 0, Scoring(), show)

    job = Job(work).start()
    with pytest.raises(Stopped):
        job.result()
    job.join(10)
    assert not job.running
    assert len(shown) <= 12
    assert model.generate([ASKED], sampling=SAMPLING, seed=[1])[0] == before


def test_what_the_model_cannot_be_steered_with_is_refused(
    model: SteerableModel, random_vector: RandomVector, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="no layer 99"):
        compared(model, Steering(random_vector(model), (99,), 1.0))
    with pytest.raises(IncompatibleError, match="organism-llama"):
        compared(shelf.model("organism-llama"), Steering(random_vector(model), (3,), 1.0))
    monkeypatch.setattr(type(model), "first_steerable_layer", 1)
    with pytest.raises(InvalidInputError, match="can be steered from layer 1 on"):
        compared(model, Steering(random_vector(model), (0,), 1.0))


def test_a_token_that_completes_a_character_replaces_the_sign_for_it() -> None:
    grown = Answer()
    for text in ("a", "a\ufffd", "aé", "aé b"):
        grown = grown.grown(text, ())
    assert grown.text == "".join(grown.tokens) == "aé b"
    assert grown.tokens == ("a", "", "é", " b")


def test_a_conversation_goes_on_on_both_sides_with_their_own_answers(
    model: SteerableModel, random_vector: RandomVector, done: Callable[..., Any]
) -> None:
    push = Steering(random_vector(model), (3,), 1.0)
    talk = Talk(model.name)
    for question in ("What can you say about the whale?", "And who owns it?"):
        talk = done(
            lambda job, q=question, t=talk: answer(
                job, model, alone(push)[0], t, q, SAMPLING, 0, scoring=Scoring(), show=lambda _talk: None
            )
        )
    baseline, steered = talk.asked("And how big is it?")
    assert [message.content for message in baseline.messages[::2]] == [message.content for message in steered.messages[::2]]
    assert baseline.messages[1].content == talk.turns[0].answers.baseline.text
    assert steered.messages[3].content == talk.turns[1].answers.steered.text
    expected = model.generate(
        [talk.asked("And how big is it?")[1]], graph=push.vector.graph(1.0, layers=[3]), sampling=SAMPLING, seed=[2]
    )
    third = done(
        lambda job: answer(
            job, model, alone(push)[0], talk, "And how big is it?", SAMPLING, 0, scoring=Scoring(), show=lambda _talk: None
        )
    )
    assert third.turns[2].answers.steered.text == expected[0].text
    seen = drift(model, push, third)
    assert [len(chat.turns) for chat in seen.chats] == [3, 3]
    assert seen.chats[0].drift() != seen.chats[1].drift()


def test_a_conversation_longer_than_the_context_is_refused_in_words(
    model: SteerableModel, random_vector: RandomVector, done: Callable[..., Any]
) -> None:
    push = Steering(random_vector(model), (3,), 0.0)
    talk = Talk(model.name, system="Always be silly. " * 120)
    with pytest.raises(InvalidInputError, match="512"):
        done(
            lambda job: answer(job, model, alone(push)[0], talk, "Why?", SAMPLING, 0, scoring=Scoring(), show=lambda _talk: None)
        )


def test_a_gguf_model_is_compared_in_the_same_way(model: SteerableModel, random_vector: RandomVector, tmp_path: Path) -> None:
    file = export_gguf(model, tmp_path / "organism-qwen2.gguf")
    shelf = Shelf([str(file)])
    try:
        native = shelf.model("organism-qwen2")
        assert native.first_steerable_layer == 1
        found, shown = compared(native, Steering(random_vector(model), (3,), 1.0), seed=5)
        expected, _ = compared(model, Steering(random_vector(model), (3,), 1.0), seed=5)
        assert [each.text for each in found.answers] == [each.text for each in expected.answers]
        for one, other in zip(found.answers, expected.answers, strict=True):
            torch.testing.assert_close(torch.tensor(one.values), torch.tensor(other.values), atol=0.05, rtol=1e-3)
        assert any(0 < len(each.steered.values) < 10 for each in shown)
        with pytest.raises(InvalidInputError, match="from layer 1 on"):
            compared(native, Steering(random_vector(model), (0,), 1.0))
    finally:
        shelf.close()
