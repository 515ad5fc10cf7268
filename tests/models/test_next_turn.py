"""Base models under the plain layout: an answer ends before the next turn, whatever the batch and whoever listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from base_models import talkative

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.next_turn import next_turn, settled
from persona_interp.models.registry import load_model
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

QUESTIONS = ("How?", "Tell me about the moon, please.", "Is it night?", "Why is the moon bright?")
ASKED = [Conversation.ask(text) for text in QUESTIONS] * 2
LONG = Sampling(40)
EVERYTHING = InterventionGraph(tuple(Capture(positions) for positions in ("all", "prompt", "prompt_last", "answer")))
WAYS_TO_END = {
    "a line of its own": ({".": ["\n"]}, []),
    "a blank line before": ({".": ["\n"], "\n": ["\n"]}, []),
    "lines within the answer": ({".": ["\n"], "\n": [" The"]}, []),
    "an end token too": ({".": ["\n", "<|endoftext|>"]}, []),
    "a token of both": ({".": [".\n"], " bright": [".\n"], ".\n": ["U"]}, [".\n"]),
    "the rest of a word": ({".": ["\n"], "ser": [" moon"]}, []),
}


@pytest.fixture(scope="module", params=WAYS_TO_END)
def model(request: pytest.FixtureRequest) -> SteerableModel:
    ends, extra = WAYS_TO_END[request.param]
    hf_model, tokenizer = talkative(ends, extra=extra)
    return load_model(hf_model, tokenizer=tokenizer)


def alone(model: SteerableModel, **options: Any) -> list[Generation]:
    seeds = row_seeds(3, len(ASKED))
    return [model.generate([asked], seed=[seed], **options)[0] for asked, seed in zip(ASKED, seeds, strict=True)]


def test_answers_end_before_the_next_turn(model: SteerableModel) -> None:
    answers = model.generate(ASKED, sampling=LONG, seed=3)
    assert {answer.text for answer in answers} != {answers[0].text}
    cut = [answer for answer in answers if answer.answer_ids[-1] not in model.chat.end_ids and answer.finished]
    assert len(cut) >= 2
    for answer in answers:
        assert "User:" not in answer.text
        assert answer.text
    for answer in cut:
        assert answer.text == model.chat.decode(answer.answer_ids[:-1]).rstrip()
        assert answer.text[-1] == "."


def test_batched_answers_equal_those_made_one_by_one(model: SteerableModel) -> None:
    together = model.generate(ASKED, sampling=LONG, seed=3, graph=EVERYTHING)
    for answer, single in zip(together, alone(model, sampling=LONG, graph=EVERYTHING), strict=True):
        assert answer == single  # ids, text, finished
        assert set(answer.captured) == set(single.captured)
        for capture, value in answer.captured.items():
            torch.testing.assert_close(value, single.captured[capture])
    assert [a.answer_ids for a in model.generate(ASKED, sampling=LONG, seed=3)] == [a.answer_ids for a in together]


def test_means_over_an_answer_hold_nothing_of_the_next_turn(model: SteerableModel) -> None:
    """The residual stream of these models counts tokens."""
    for answer in model.generate(ASKED, sampling=LONG, seed=3, graph=EVERYTHING):
        said = torch.tensor(answer.answer_ids[:-1])
        expected = torch.bincount(said, minlength=model.d_model) / len(said)
        for found in answer.captured[Capture("answer")]:
            torch.testing.assert_close(found, expected)
        whole = torch.tensor((*answer.prompt_ids, *answer.answer_ids[:-1]))
        torch.testing.assert_close(
            answer.captured[Capture("all")][0], torch.bincount(whole, minlength=model.d_model) / len(whole)
        )


def test_captures_while_generating_equal_captures_of_the_same_ids_also_steered(model: SteerableModel) -> None:
    push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    graph = InterventionGraph((Write(0, Add(push), 0.02, "response"), *EVERYTHING.captures, Capture("answer", "none", (0, 1))))
    answers = model.generate(ASKED, sampling=LONG, seed=3, graph=graph)
    again = model.capture([TokenisedAnswer(a.prompt_ids + a.answer_ids, len(a.prompt_ids)) for a in answers], graph)
    for answer, captured in zip(answers, again, strict=True):
        assert set(answer.captured) == set(captured)
        for capture, value in captured.items():
            torch.testing.assert_close(answer.captured[capture], value, rtol=1e-4, atol=1e-5)


def test_a_listener_hears_no_beginning_of_the_next_turn(model: SteerableModel) -> None:
    told: dict[int, list[str]] = {row: [] for row in range(len(ASKED))}
    seen: list[int] = []
    answers = model.generate(
        ASKED,
        sampling=LONG,
        seed=3,
        graph=InterventionGraph((Capture("answer", "none", (0,)),)),
        on_text=lambda row, text: told[row].append(text),
        on_captured=lambda row, _captured: seen.append(row),
    )
    assert [told[row][-1] for row in range(len(ASKED))] == [answer.text for answer in answers]
    assert set(seen) == set(told)
    for row, texts in told.items():
        assert all(answers[row].text.startswith(text) for text in texts)
        assert texts == sorted(texts, key=len)
    assert [answer.answer_ids for answer in answers] == [a.answer_ids for a in model.generate(ASKED, sampling=LONG, seed=3)]


def test_generation_stops_there() -> None:
    hf_model, tokenizer = talkative({".": ["\n"]})
    model = load_model(hf_model, tokenizer=tokenizer)
    calls: list[int] = []
    hf_model.register_forward_pre_hook(lambda *_: calls.append(1))
    (answer,) = model.generate(ASKED[:1], sampling=Sampling(200), seed=3)
    assert len(answer.answer_ids) < len(calls) <= len(answer.answer_ids) + 5


def test_what_may_be_a_next_turn_counts_where_the_limit_leaves_it_open() -> None:
    hf_model, tokenizer = talkative({".": ["\n"]})
    model = load_model(hf_model, tokenizer=tokenizer)
    (whole,) = model.generate(ASKED[:1], sampling=LONG, seed=3)
    told: list[str] = []
    (cut,) = model.generate(
        ASKED[:1], sampling=Sampling(len(whole.answer_ids) + 1), seed=3, on_text=lambda _row, text: told.append(text)
    )
    assert cut.text == told[-1] == f"{whole.text}\nU"
    assert not cut.finished


def test_given_texts_stay_as_they_are_given() -> None:
    hf_model, tokenizer = talkative({".": ["\n"]})
    chat = load_model(hf_model, tokenizer=tokenizer).chat
    given = "The moon.\nUser: Is it?\nAssistant: It is."
    row = chat.tokenise(ASKED[0], given)
    assert chat.decode(row.answer_ids) == given
    assert row.answer_ids[-1] in chat.end_ids


def test_chat_templates_have_tokens_of_their_own_for_it() -> None:
    hf_model, tokenizer = talkative({".": ["\n"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}:"
    (answer,) = load_model(hf_model, tokenizer=tokenizer).generate(ASKED[:1], sampling=LONG, seed=3)
    assert "\nUser:" in answer.text


def test_a_gguf_model_ends_its_answers_there_too(tmp_path: Path) -> None:
    from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
    from persona_interp.organisms.gguf_export import export_gguf

    hf_model, tokenizer = talkative({".": ["\n"], "\n": [" The"]})
    model = load_model(hf_model, tokenizer=tokenizer)
    graph = InterventionGraph((Capture("answer"),))
    expected = model.generate(ASKED, sampling=LONG, seed=3, graph=graph)
    told: dict[int, str] = {}
    with LlamaCppModel(export_gguf(model, tmp_path / "base.gguf")) as native:
        assert native.chat.plain
        found = native.generate(ASKED, sampling=LONG, seed=3, graph=graph, on_text=told.__setitem__)
    assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in expected]
    assert [told[row] for row in range(len(ASKED))] == [answer.text for answer in found] == [answer.text for answer in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.captured[Capture("answer")], theirs.captured[Capture("answer")], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "answer", "sure"),
    [
        ("Bees do.\nUser: And?", "Bees do.", None),
        ("Bees do. \n\n\nUser:", "Bees do.", None),
        ("Bees do.\nAssistant: Yes.", "Bees do.", None),
        ("\nUser:", "", None),
        ("Bees do.\nUser", None, "Bees do."),
        ("Bees do.\nA", None, "Bees do."),
        ("Bees do. \n", None, "Bees do."),
        ("Bees do. ", None, "Bees do."),
        ("Bees do.\nUsers", None, "Bees do.\nUsers"),
        ("Bees do, User: yes", None, "Bees do, User: yes"),
        ("", None, ""),
    ],
)
def test_where_a_next_turn_begins_and_where_it_may(text: str, answer: str | None, sure: str | None) -> None:
    cut = next_turn(text)
    assert (None if cut is None else text[:cut]) == answer
    if sure is not None:
        assert text[: settled(text)] == sure
