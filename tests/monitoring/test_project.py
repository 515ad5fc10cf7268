"""Projections equal those computed with bare hooks, one text at a time; turns share rows without changing a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from oracle import forward

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.project import project, project_each
from persona_interp.monitoring.projection import Axis, Projections
from persona_interp.monitoring.rows import chunks, shared_rows, turn_rows
from persona_interp.traits.conversation import Conversation, Message
from persona_interp.vectors.persona_vector import PersonaVector

LONG = Chat(
    (
        Message("user", "What is the moon?"),
        Message("assistant", "The moon is bright."),
        Message("user", "How do bees make honey?"),
        Message("assistant", "Bees collect nectar in the hive, and turn it into honey."),
        Message("user", "Tell me more, please."),
    ),
    name="long",
)
TEXTS = [Chat.of("What is a river?", "A large city.", name="short"), LONG, Conversation.ask("What is tea?")]


def vector_of(model: SteerableModel, layers: tuple[int, ...] = (0, 2), seed: int = 0) -> PersonaVector:
    directions = 7 * torch.randn(len(layers), model.d_model, generator=torch.Generator().manual_seed(seed))
    return PersonaVector(directions, layers, "silly", model.identity)


def by_hand(model: SteerableModel, vector: PersonaVector, ids: tuple[int, ...]) -> torch.Tensor:
    """``[layer pos]``: projections of a text on the unit directions."""
    resid = forward(model.hf_model, ids)[1][list(vector.layers)]
    units = vector.directions / vector.directions.norm(dim=1, keepdim=True)
    return torch.einsum("lpd,ld->lp", resid, units)


def test_every_value_is_that_of_a_bare_hook(tiny_model: Callable[[str], SteerableModel], architecture: str) -> None:
    model = tiny_model(architecture)
    vector = vector_of(model)
    seen = project(model, vector, TEXTS)
    turns = [(chat, turn) for chat in (TEXTS[0], LONG) for turn in chat.turns] + [(None, None)]
    projected = [turn for chat in seen.chats for turn in chat.turns]
    assert len(projected) == len(turns) == 5
    for (_, turn), found in zip(turns[:-1], projected, strict=False):
        if turn.answer is None:
            expected = by_hand(model, vector, tuple(model.chat.prompt_ids(turn.conversation)))
            assert found.answer_mean is None
            torch.testing.assert_close(torch.tensor(found.prompt_last), expected[:, -1], atol=1e-4, rtol=1e-4)
            continue
        row = model.chat.tokenise(turn.conversation, turn.answer)
        expected = by_hand(model, vector, row.ids[:-1])
        torch.testing.assert_close(torch.tensor(found.prompt_last), expected[:, row.n_prompt - 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(found.answer_mean), expected[:, row.n_prompt :].mean(1), atol=1e-4, rtol=1e-4)
        n_new = len(found.tokens)
        torch.testing.assert_close(torch.tensor(found.values), expected[:, -n_new:], atol=1e-4, rtol=1e-4)


def test_means_alone_agree_with_the_means_over_tokens(tiny_model: Callable[[str], SteerableModel], architecture: str) -> None:
    model = tiny_model(architecture)
    texts = [*TEXTS, "The capital is a large city."]
    with_tokens = project(model, vector_of(model), texts)
    without = project(model, vector_of(model), texts, tokens=False, batch_size=2)
    for one, other in zip(with_tokens.chats, without.chats, strict=True):
        for turn, mean in zip(one.turns, other.turns, strict=True):
            assert mean.tokens == mean.values == ()
            assert (turn.prompt_last is None) == (mean.prompt_last is None)
            assert turn.prompt_last is None or turn.prompt_last == pytest.approx(mean.prompt_last, abs=1e-4)
            assert (turn.answer_mean is None) == (mean.answer_mean is None)
            assert turn.answer_mean is None or turn.answer_mean == pytest.approx(mean.answer_mean, abs=1e-4)


def test_a_conversation_is_one_row_and_its_tokens_are_shown_once(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    turns = turn_rows(model, [LONG, TEXTS[0]])
    assert [row.turns for row in shared_rows(turns)] == [(0, 1, 2), (3,)]
    chat = project(model, vector_of(model), [LONG]).chats[0]
    text = "".join(token for turn in chat.turns for token in turn.tokens)
    assert text == model.chat.prompt_text(LONG.turns[-1].conversation)
    second = chat.turns[1]
    assert "".join(second.tokens[second.n_prompt_tokens :]) == second.answer
    assert all(len(row) == len(turn.tokens) for turn in chat.turns for row in turn.values)


def test_a_turn_whose_tokens_a_later_prompt_rewrites_has_a_row_of_its_own(tiny_model: Callable[[str], SteerableModel]) -> None:
    turns = turn_rows(tiny_model("qwen2"), [LONG])
    first = turns[0].tokenised
    turns[0] = replace(turns[0], tokenised=TokenisedAnswer((*first.prompt_ids, 9, 9, 9), first.n_prompt))
    assert [row.turns for row in shared_rows(turns)] == [(0,), (1, 2)]


def test_equal_texts_are_read_apart_and_memory_is_bounded(tiny_model: Callable[[str], SteerableModel]) -> None:
    rows = shared_rows(turn_rows(tiny_model("qwen2"), [TEXTS[0], TEXTS[0], LONG]))
    assert [row.turns for row in rows] == [(0,), (1,), (2, 3, 4)]
    n = rows[0].n_read
    assert [len(group) for group in chunks(rows, 2 * n)] == [2, 1]
    assert [len(group) for group in chunks(rows, 1)] == [1, 1, 1]


def test_several_vectors_at_layers_of_their_own_are_read_in_one_pass(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    one, other = vector_of(model), vector_of(model, (1, 2, 3), seed=1)
    together = project_each(model, [one, other], TEXTS, layers=[[2], None])
    assert together[0].layers == (2,)
    assert together[1].layers == (1, 2, 3)
    assert together == [project(model, one, TEXTS, layers=[2]), project(model, other, TEXTS)]


def test_vector_lengths_are_projections_over_the_norm(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    vector = vector_of(model)
    plain = project(model, vector, TEXTS[:1])
    lengths = project(model, vector, TEXTS[:1], unit="vector_length")
    assert lengths.answers(2) == pytest.approx([plain.answers(2)[0] / float(vector.norms[1])])
    assert lengths.prompts(0) == pytest.approx([plain.prompts(0)[0] / float(vector.norms[0])])
    assert project(model, vector * 3, TEXTS[:1]).answers(2) == pytest.approx(plain.answers(2))
    assert project(model, vector * 2, TEXTS[:1], unit="vector_length").answers(2)[0] == pytest.approx(lengths.answers(2)[0] / 2)


def test_adding_the_vector_raises_its_own_projection_by_its_length(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    vector = vector_of(model, (2,))
    row = model.chat.tokenise(Conversation.ask("What is a river?"), "A large city.")
    capture = Capture("answer", layers=(2,))
    read = [
        model.capture([row], graph + InterventionGraph((capture,)))[0][capture]
        for graph in (InterventionGraph(), vector.graph(1.5, layers=[2]))
    ]
    axis = Axis.of(vector, None, "vector_length")
    assert float(axis.project(read[1]) - axis.project(read[0])) == pytest.approx(1.5, abs=1e-4)


def test_plain_text_is_read_to_its_last_token_without_roles(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("gpt2")
    vector = vector_of(model)
    text = "The moon is bright."
    turn = project(model, vector, [text]).chats[0].turns[0]
    expected = by_hand(model, vector, tuple(model.tokenizer(text)["input_ids"]))
    assert "".join(turn.tokens) == text
    assert turn.prompt_last is None
    torch.testing.assert_close(torch.tensor(turn.values), expected, atol=1e-4, rtol=1e-4)


def test_drift_is_counted_from_the_first_turn_that_was_answered(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    chat = project(model, vector_of(model), [LONG], tokens=False).chats[0]
    drift = chat.drift(1)
    assert drift[0] == 0.0
    assert drift[1] == pytest.approx(chat.turns[1].answer_mean[1] - chat.turns[0].answer_mean[1])
    assert drift[2] is None


def test_an_empty_answer_has_no_mean(tiny_model: Callable[[str], SteerableModel]) -> None:
    for tokens in (True, False):
        seen = project(tiny_model("qwen2"), vector_of(tiny_model("qwen2")), [Chat.of("What is tea?", "")], tokens=tokens)
        assert seen.answers(2) == [None]
        assert seen.prompts(2)[0] is not None


def test_json_round_trip_is_exact_and_broken_files_are_refused(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    seen = project(model, vector_of(model), [*TEXTS, "Plain é text."], unit="vector_length")
    data = json.loads(json.dumps(seen.to_json(), allow_nan=False))
    assert Projections.from_json(data) == seen
    with pytest.raises(FileFormatError, match="seen.json: field 'norms' is missing"):
        Projections.from_json({key: value for key, value in data.items() if key != "norms"}, source="seen.json")
    with pytest.raises(FileFormatError, match="format_version 2 is not 1"):
        Projections.from_json(data | {"format_version": 2})
    with pytest.raises(FileFormatError, match="field unit is malformed .expected 'activation' or 'vector_length'"):
        Projections.from_json(data | {"unit": "metres"})


def test_what_cannot_be_projected_is_refused_in_words(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    vector = vector_of(model)
    with pytest.raises(InvalidInputError, match="no text to project"):
        project(model, vector, [])
    with pytest.raises(InvalidInputError, match="text 1 is empty"):
        project(model, vector, ["a", ""])
    with pytest.raises(InvalidInputError, match=r"has no layer 1: it has layers 0, 2 \(0-based\)"):
        project(model, vector, TEXTS, layers=[1])
    with pytest.raises(InvalidInputError, match="no layer was given to read"):
        project(model, vector, TEXTS, layers=[])
    with pytest.raises(InvalidInputError, match="no vector"):
        project_each(model, [], TEXTS, layers=[])
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        project(tiny_model("mistral"), vector, TEXTS)
    with pytest.raises(InvalidInputError, match="is zero at layers"):
        project(model, vector * 0, TEXTS)
    with pytest.raises(InvalidInputError, match="does not fit into the context"):
        project(model, vector, [Chat.of("the moon " * 400, "Yes.")])
    with pytest.raises(InvalidInputError, match="layer 2 was not read"):
        project(model, vector, TEXTS, layers=[0]).answers(2)
