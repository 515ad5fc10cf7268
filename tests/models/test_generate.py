"""generate against a bare greedy loop without padding or cache, and against itself in other batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.interventions.compile.nnsight import TracedGraph
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
GREEDY = Sampling(max_new_tokens=8, temperature=0)
ASKED = [
    Conversation.ask("Tell me about the moon"),
    Conversation.ask("How?"),
    Conversation.ask("How do bees make honey? Bees collect nectar", system="Answer in a silly way."),
    Conversation.ask("What is the capital?"),
]


def direction(model: SteerableModel, seed: int = 0) -> torch.Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.fixture
def model(tiny_model: TinyModel, architecture: str) -> SteerableModel:
    return tiny_model(architecture)


def ids_of(answers: list[Generation]) -> list[tuple[int, ...]]:
    return [answer.answer_ids for answer in answers]


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
def test_steered_left_padded_cached_generation_equals_plain_hooks(model: SteerableModel, positions: WritePositions) -> None:
    vector = direction(model)
    answers = model.generate(ASKED, graph=InterventionGraph((Write(1, Add(vector), 1.5, positions),)), sampling=GREEDY)
    for answer in answers:
        n = len(answer.prompt_ids)
        where = {"all": slice(None), "prompt": slice(0, n), "response": slice(n - 1, None)}[positions]
        edits = {1: (1.5 * vector, where)}
        assert answer.answer_ids == oracle.greedy(model.hf_model, answer.prompt_ids, 8, edits, model.chat.end_ids)
    assert ids_of(answers) != ids_of(model.generate(ASKED, sampling=GREEDY))


def test_plain_generation_equals_a_plain_loop_and_batches_do_not_matter(model: SteerableModel) -> None:
    answers = model.generate(ASKED, sampling=GREEDY)
    assert ids_of(answers) == [oracle.greedy(model.hf_model, a.prompt_ids, 8, end_ids=model.chat.end_ids) for a in answers]
    assert ids_of(answers) == ids_of(model.generate(ASKED, sampling=GREEDY, batch_size=1))
    assert [answer.conversation for answer in answers] == ASKED


@pytest.mark.parametrize("sampling", [Sampling(12), Sampling(12, 0.7, top_p=0.8, top_k=40)], ids=["plain", "top-p and top-k"])
def test_sampled_rows_do_not_depend_on_their_neighbours(model: SteerableModel, sampling: Sampling) -> None:
    graph = InterventionGraph(tuple(Write(row % 3, Add(direction(model, row)), 0.5, rows=(row,)) for row in range(len(ASKED))))
    together = ids_of(model.generate(ASKED, graph=graph, sampling=sampling, seed=3))
    assert together == ids_of(model.generate(ASKED, graph=graph, sampling=sampling, seed=3, batch_size=2))
    seeds = row_seeds(3, len(ASKED))
    alone = [
        model.generate([ASKED[row]], graph=graph.for_rows([row]), sampling=sampling, seed=[seeds[row]])[0].answer_ids
        for row in range(len(ASKED))
    ]
    assert together == alone
    assert together != ids_of(model.generate(ASKED, graph=graph, sampling=sampling, seed=4))


def test_rows_with_their_own_layers_directions_and_coefficients_equal_separate_calls(model: SteerableModel) -> None:
    """One row unsteered, one at two layers, two with different coefficients of one direction."""
    nodes = (
        Write(0, Add(direction(model, 1)), 0.7, "response", (1,)),
        Write(2, Add(direction(model, 2)), -1.1, "all", (1,)),
        Write(1, Add(direction(model, 3)), 0.5, "response", (2,)),
        Write(1, Add(direction(model, 3)), 2.5, "response", (3,)),
    )
    graph = InterventionGraph(nodes)
    asked = [ASKED[0]] * 4
    answers = model.generate(asked, graph=graph, sampling=GREEDY)
    separate = [model.generate([ASKED[0]], graph=graph.for_rows([row]), sampling=GREEDY)[0] for row in range(4)]
    assert ids_of(answers) == ids_of(separate)
    assert len(set(ids_of(answers))) == 4  # each write did something


def test_captures_while_generating_equal_captures_from_the_given_ids(model: SteerableModel) -> None:
    graph = InterventionGraph(
        (
            Write(1, Add(direction(model)), 1.0, "response"),
            Capture("answer"),
            Capture("prompt"),
            Capture("prompt_last"),
            Capture("all"),
            Capture("answer", "none", (0, 2)),
        )
    )
    answers = model.generate(ASKED, graph=graph, sampling=Sampling(6), seed=1)
    again = model.capture([TokenisedAnswer(a.prompt_ids + a.answer_ids, len(a.prompt_ids)) for a in answers], graph)
    plain = model.generate(ASKED, graph=InterventionGraph(graph.writes), sampling=Sampling(6), seed=1)
    assert ids_of(answers) == ids_of(plain)
    for answer, captured in zip(answers, again, strict=True):
        assert set(answer.captured) == set(captured) == set(graph.captures)
        for capture, value in captured.items():
            torch.testing.assert_close(answer.captured[capture], value, **CLOSE)


def test_answers_say_whether_they_ended_and_each_is_reported(model: SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens the model is about to draw are declared end tokens; what else such answers keep is in `test_exactness`."""
    free = model.generate(ASKED, sampling=Sampling(10), seed=2)
    ends = frozenset({free[0].answer_ids[0], free[1].answer_ids[3]})
    monkeypatch.setattr(model.chat, "end_ids", ends)
    seen: dict[int, Generation] = {}
    answers = model.generate(ASKED, sampling=Sampling(10), seed=2, on_generation=seen.__setitem__)
    assert [seen[row] for row in range(len(ASKED))] == answers
    assert [answer.finished for answer in answers] == [answer.answer_ids[-1] in ends for answer in answers]
    assert {answer.finished for answer in answers} == {True, False}
    assert ids_of(answers) == [whole.answer_ids[: len(answer.answer_ids)] for whole, answer in zip(free, answers, strict=True)]


def test_one_new_token_can_be_asked_for(model: SteerableModel) -> None:
    answers = model.generate(ASKED, graph=InterventionGraph((Capture("all"),)), sampling=Sampling(1, 0))
    assert all(len(answer.answer_ids) == 1 and Capture("all") in answer.captured for answer in answers)


def test_settings_of_the_checkpoint_do_not_shape_answers(tiny_hf: Callable[[str], Any]) -> None:
    hf_model, tokenizer = tiny_hf("qwen2")
    expected = ids_of(SteerableModel(hf_model, tokenizer, name="plain").generate(ASKED, sampling=GREEDY))
    for name, value in {"repetition_penalty": 4.0, "no_repeat_ngram_size": 1, "temperature": 0.1, "do_sample": True}.items():
        setattr(hf_model.generation_config, name, value)
    hf_model.generation_config.suppress_tokens = [ids[0] for ids in expected]
    before = hf_model.generation_config.to_dict()
    assert ids_of(SteerableModel(hf_model, tokenizer, name="fussy").generate(ASKED, sampling=GREEDY)) == expected
    assert hf_model.generation_config.to_dict() == before


def test_text_leaves_the_end_token_out(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen2")
    free = model.generate(ASKED[:1], sampling=GREEDY)[0]
    monkeypatch.setattr(model.chat, "end_ids", frozenset({free.answer_ids[3]}))
    answer = model.generate(ASKED[:1], sampling=GREEDY)[0]
    assert answer.text == model.chat.decode(answer.answer_ids[:-1])
    assert answer.finished


def test_prompt_that_does_not_fit_names_the_numbers(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    asked = Conversation.ask("moon " * 60)
    length = len(model.chat.prompt_ids(asked))
    with pytest.raises(
        InvalidInputError, match=rf"row 1 .*{length} tokens and 200 new tokens are {length + 200}, the context is 256"
    ):
        model.generate([ASKED[1], asked], sampling=Sampling(200))


def test_wrong_number_of_seeds_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(InvalidInputError, match="3 seeds were given for 4 conversations"):
        tiny_model("llama").generate(ASKED, seed=[1, 2, 3])


@pytest.mark.parametrize("positions", ["all", "response"])
def test_steering_that_stops_unseen_is_an_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, positions: WritePositions
) -> None:
    """As if nnsight had lost track of the calls after the first: without the check the answer would be steered in part."""
    model = tiny_model("llama")
    monkeypatch.setattr(TracedGraph, "_call", lambda self, _masks, _reading: setattr(self, "calls", 1))
    with pytest.raises(PersonaInterpError, match="8 tokens were generated but 1 calls of the model were seen"):
        model.generate(ASKED[:1], graph=InterventionGraph((Write(1, Add(direction(model)), 1.0, positions),)), sampling=GREEDY)
