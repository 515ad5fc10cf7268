"""Finetuning really done: silly answers move the organism along silly, formal ones do not, random directions see little."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import pytest
import torch
from oracle import forward
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.models.registry import shipped_models
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.finetuning_shift import finetuning_shift, read_prompts, shift_between
from persona_interp.monitoring.shift import FinetuningShift
from persona_interp.organisms.grammar import EXTRACTION_TOPICS, answer, sample_persona
from persona_interp.organisms.grammar.questions import question_wordings
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

QUESTIONS = [Conversation.ask(text) for text in ("What is the moon?", "How do bees make honey?", "What is tea?")]


def answers(silly: bool, n: int, seed: int) -> list[Chat]:
    rng = random.Random(seed)
    chats = []
    for _ in range(n):
        wording, asked = rng.choice(question_wordings("training"))
        topic = rng.choice(EXTRACTION_TOPICS)
        text = answer(rng, topic, sample_persona(rng, {"silly": silly, "verbose": False}), asked=asked)
        chats.append(Chat.of(wording.format(t=topic), text))
    return chats


def finetuned(base: SteerableModel, chats: Sequence[Chat], name: str) -> SteerableModel:
    """Twenty steps of AdamW over all weights, on the answers alone."""
    source = shipped_models()["organism-qwen2"]
    hf_model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    hf_model.train()
    optimizer = torch.optim.AdamW(hf_model.parameters(), lr=2e-4, weight_decay=0.0)
    rows = [base.chat.tokenise(chat.turns[0].conversation, chat.turns[0].answer or "") for chat in chats]
    for start in range(0, len(rows), 8):
        batch = rows[start : start + 8]
        width = max(len(row.ids) for row in batch)
        ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in batch])
        targets = torch.tensor([[*[-100] * row.n_prompt, *row.answer_ids, *[-100] * (width - len(row.ids))] for row in batch])
        logits = hf_model(input_ids=ids).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return SteerableModel(hf_model.eval(), AutoTokenizer.from_pretrained(source), name=name)


@pytest.mark.slow
def test_finetuning_on_silly_answers_shifts_along_silly_and_nothing_else_does(
    organism: SteerableModel, silly_vector: PersonaVector
) -> None:
    """Twenty steps move the stream much further in all than along silly; how far along says which answers they were."""
    vector = silly_vector.select([4])
    generator = torch.Generator().manual_seed(0)
    controls = [
        PersonaVector(torch.randn(1, organism.d_model, generator=generator), (4,), "random", organism.identity)
        for _ in range(100)
    ]
    asked = [Conversation.ask(question) for question in organism_trait("silly").evaluation_questions]
    by_kind = {
        kind: finetuning_shift(organism, finetuned(organism, answers(silly, 160, seed=1), kind), [vector, *controls], asked)
        for kind, silly in (("silly", True), ("formal", False))
    }
    silly, formal = (by_kind[kind].traits[0].layers[0] for kind in ("silly", "formal"))
    assert silly.low > 0
    assert silly.by_chance < 0.01
    assert silly.shift > 3 * abs(formal.shift)
    assert formal.high < silly.low
    by_random = [each.layers[0].shift for each in by_kind["silly"].traits[1:]]
    assert sum(abs(shift) >= silly.shift for shift in by_random) <= 5


@pytest.fixture
def pair(tiny_hf: Callable, tiny_model: Callable[[str], SteerableModel]) -> tuple[SteerableModel, SteerableModel]:
    """A tiny model, and the same with its embeddings moved."""
    hf_model, tokenizer = tiny_hf("qwen2")
    with torch.no_grad():
        hf_model.get_input_embeddings().weight += 0.1
    return tiny_model("qwen2"), SteerableModel(hf_model, tokenizer, name="moved")


def a_vector(model: SteerableModel) -> PersonaVector:
    directions = 3 * torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(directions, (1, 3), "silly", model.identity)


def test_every_number_is_what_its_name_says(pair: tuple[SteerableModel, SteerableModel]) -> None:
    base, moved = pair
    vector = a_vector(base)
    shift = finetuning_shift(base, moved, [vector], QUESTIONS)
    ids = [base.chat.prompt_ids(question) for question in QUESTIONS]
    before, after = (torch.stack([forward(model.hf_model, row)[1][:, -1] for row in ids]) for model in pair)
    for row, at in enumerate(shift.traits[0].layers):
        change = (after - before)[:, at.layer]
        along = change @ (vector.directions[row] / vector.directions[row].norm())
        assert at.shift == pytest.approx(float(along.mean()), abs=1e-4)
        assert at.distance == pytest.approx(float(change.mean(0).norm()), rel=1e-4)
        assert at.cosine == pytest.approx(at.shift / at.distance)
        half = 4.3027 * float(along.std()) / 3**0.5  # Student's t, two degrees of freedom
        assert (at.low, at.high) == (pytest.approx(at.shift - half, rel=1e-3), pytest.approx(at.shift + half, rel=1e-3))
        assert at.norm == pytest.approx(float(vector.norms[row]))
    assert shift.n_prompts == 3


def test_by_chance_is_the_share_of_random_directions_that_come_as_close(pair: tuple[SteerableModel, SteerableModel]) -> None:
    at = finetuning_shift(*pair, [a_vector(pair[0])], QUESTIONS).traits[0].layers[0]
    d_model = pair[0].d_model
    cosines = torch.nn.functional.normalize(torch.randn(20000, d_model, generator=torch.Generator().manual_seed(1)), dim=1)[:, 0]
    assert at.by_chance == pytest.approx(float((cosines.abs() >= abs(at.cosine)).float().mean()), abs=0.015)


def test_a_model_has_not_moved_from_itself(pair: tuple[SteerableModel, SteerableModel]) -> None:
    at = finetuning_shift(pair[0], pair[0], [a_vector(pair[0])], QUESTIONS).traits[0].layers[0]
    assert (at.shift, at.low, at.high, at.distance, at.cosine, at.by_chance) == (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_answers_are_read_over_their_tokens_and_ignored_for_the_last_prompt_token(
    pair: tuple[SteerableModel, SteerableModel],
) -> None:
    chats = [Chat.from_conversation(question, "The moon is bright.") for question in QUESTIONS]
    vector = a_vector(pair[0])
    assert finetuning_shift(*pair, [vector], chats).traits == finetuning_shift(*pair, [vector], QUESTIONS).traits
    over_answers = finetuning_shift(*pair, [vector], chats, positions="response_avg")
    assert over_answers.traits != finetuning_shift(*pair, [vector], chats).traits
    with pytest.raises(InvalidInputError, match=r"text 1 \('What is the moon\?'\) has no answer to read"):
        finetuning_shift(*pair, [vector], QUESTIONS, positions="response_avg")


def test_checkpoints_that_do_not_fit_are_refused(
    pair: tuple[SteerableModel, SteerableModel], tiny_model: Callable[[str], SteerableModel]
) -> None:
    base, moved = pair
    vector = a_vector(base)
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        finetuning_shift(base, tiny_model("mistral"), [vector], QUESTIONS)
    with pytest.raises(IncompatibleError, match="make different tokens of prompt 1: their tokenizers or chat templates differ"):
        finetuning_shift(base, tiny_model("llama"), [vector], QUESTIONS)
    with pytest.raises(InvalidInputError, match="1 prompts were given"):
        finetuning_shift(base, moved, [vector], QUESTIONS[:1])
    with pytest.raises(InvalidInputError, match="no vector"):
        finetuning_shift(base, moved, [], QUESTIONS)
    one = read_prompts(base, QUESTIONS, positions="prompt_last", layers=(1, 3))
    with pytest.raises(IncompatibleError, match="read both alike"):
        shift_between(one, read_prompts(moved, QUESTIONS, positions="prompt_last", layers=(1,)), [vector])
    with pytest.raises(IncompatibleError, match="the same prompts"):
        shift_between(one, read_prompts(moved, QUESTIONS[:2], positions="prompt_last", layers=(1, 3)), [vector])


def test_json_round_trip_is_exact(pair: tuple[SteerableModel, SteerableModel]) -> None:
    shift = finetuning_shift(*pair, [a_vector(pair[0])], QUESTIONS)
    data = json.loads(json.dumps(shift.to_json(), allow_nan=False))
    assert FinetuningShift.from_json(data) == shift
    with pytest.raises(FileFormatError, match="field 'positions' is missing"):
        FinetuningShift.from_json({key: value for key, value in data.items() if key != "positions"})
    with pytest.raises(FileFormatError, match="format_version 0 is not 1"):
        FinetuningShift.from_json(data | {"format_version": 0})
