"""What the engine vLLM must do beyond the contract, against the package's own engine on the same weights.

Run by test_vllm.py in an environment that has vLLM; ``pytest vllm_claims.py`` runs it in such a one by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from real import smollm2
from torch import Tensor
from vllm_models import BLOCK, CHUNK, vllm_model

from persona_interp.errors import PersonaInterpError, UnsupportedError
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add, AddPreservingNorm, Cap, Clamp
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.vllm import engine as vllm_engine
from persona_interp.models.engines.vllm.request import PersonaRequest, cache_salt
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

OTHERS = ("organism-qwen2", "organism-gpt2")
GREEDY, DRAWN = Sampling(16, 0), Sampling(16, 1.0, top_p=0.95)
SYSTEM = "You are an assistant who answers each and every question that people have, at whatever length they want it. " * 3
LONG = Conversation.ask("How do bees make honey?", system=SYSTEM)
ASKED = [LONG, Conversation.ask("How are you?", system=SYSTEM), Conversation.ask("What is a bicycle?")]
FREE: frozenset[int] = frozenset()


def oracle(name: str = "organism-llama") -> SteerableModel:
    return load_model(name, dtype="float32")


@pytest.fixture(scope="module")
def ours() -> SteerableModel:
    return oracle()


@pytest.fixture(scope="module")
def theirs() -> SteerableModel:
    return vllm_model("organism-llama")


@cache
def length(model: SteerableModel) -> float:
    """Of the directions: somewhat more than the stream's own, so that most answers change."""
    return 1.3 * float(model.read("How are you?", 2).norm())


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    drawn = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm() * length(model)


def graphs(model: SteerableModel) -> dict[str, InterventionGraph]:
    one, two, far = direction(model), direction(model, 1), length(model)
    return {
        "unsteered": InterventionGraph(),
        "added": InterventionGraph((Write(2, Add(one), 0.6),)),
        "added to the response": InterventionGraph((Write(1, Add(one), 1.0, "response"),)),
        "added to the prompt": InterventionGraph((Write(1, Add(one), -1.0, "prompt"),)),
        "ablated": InterventionGraph((Write(1, Ablate(one)), Write(3, Ablate(one)))),
        "clamped": InterventionGraph((Write(1, Clamp(one, -far), 0.8),)),
        "capped": InterventionGraph((Write(1, Cap(two, -far)), Write(2, Add(two), 0.1))),
        "ramped": InterventionGraph((Write(1, Add(one), -2.0, "response", schedule=LinearRamp(0, 1, 6)),)),
        "turned where it is far": InterventionGraph(
            (Write(1, AddPreservingNorm(two), 2.0, condition=ProjectionCondition(two, 0.0)),)
        ),
    }


def answers(model: SteerableModel, asked: list[Conversation], **options: Any) -> list[tuple[int, ...]]:
    return [answer.answer_ids for answer in model.generate(asked, **options)]


def by_row(parts: list[InterventionGraph]) -> InterventionGraph:
    """One graph in which row i is written to by the i-th of `parts`."""
    nodes = [Write(w.layer, w.operation, w.coefficient, w.positions, (row,), w.condition, w.schedule)
             for row, part in enumerate(parts) for w in part.writes]  # fmt: skip
    return InterventionGraph(tuple(nodes))


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_alone_and_among_strangers_tokens_are_the_oracles(ours, theirs, sampling):
    assert len(ours.chat.prompt_ids(LONG)) > 2 * CHUNK, "so the prompt passes in chunks"
    every = graphs(ours)
    expected = {name: answers(ours, [LONG], graph=graph, sampling=sampling, seed=[5])[0] for name, graph in every.items()}
    assert len(set(expected.values())) > 5, "steering does something"
    for name, graph in every.items():
        assert answers(theirs, [LONG], graph=graph, sampling=sampling, seed=[5]) == [expected[name]], name
    together = answers(theirs, [LONG] * len(every), graph=by_row(list(every.values())), sampling=sampling, seed=[5] * len(every))
    assert dict(zip(every, together, strict=True)) == expected
    again = answers(theirs, [LONG] * len(every), graph=by_row(list(every.values())), sampling=sampling, seed=[5] * len(every))
    assert again == together, "out of the prefix cache"


def test_without_a_prefix_cache_and_in_one_piece_the_same(ours):
    plain = vllm_model("organism-llama", caching=False, chunk=512)
    every = list(graphs(ours).values())
    asked = [ASKED[row % len(ASKED)] for row in range(len(every))]
    expected = answers(ours, asked, graph=by_row(every), sampling=GREEDY)
    assert answers(plain, asked, graph=by_row(every), sampling=GREEDY) == expected


@pytest.mark.parametrize("name", OTHERS)
def test_every_architecture_at_hand(name):
    ours, theirs = oracle(name), vllm_model(name)
    every = list(graphs(ours).values())
    asked = [ASKED[row % len(ASKED)] for row in range(len(every))]
    assert answers(theirs, asked, graph=by_row(every), sampling=GREEDY) == answers(
        ours, asked, graph=by_row(every), sampling=GREEDY
    )
    assert theirs.identity == ours.identity


def test_the_cache_never_mixes_personas_and_it_is_the_salt_that_keeps_them_apart(ours, theirs, monkeypatch):
    one = InterventionGraph((Write(1, Add(direction(ours)), 1.0),))
    two = InterventionGraph((Write(1, Add(direction(ours)), -1.0),))
    expected = [answers(ours, [LONG], graph=graph, sampling=GREEDY) for graph in (one, two, None)]
    assert expected[0] != expected[1] != expected[2]
    for _ in range(2):
        for graph, right in zip((one, two, None), expected, strict=True):
            assert answers(theirs, [LONG], graph=graph, sampling=GREEDY) == right
    # the same with no salt: the second persona reads what the first one left
    monkeypatch.setattr(vllm_engine, "cache_salt", lambda graph, n_prompt: "the same for all")
    mixed = [answers(theirs, [LONG], graph=graph, sampling=GREEDY) for graph in (one, two, None)]
    assert mixed != expected


def test_an_answer_that_comes_back_as_prompt_is_not_taken_from_the_cache(ours, theirs):
    graph = InterventionGraph((Write(1, Add(direction(ours)), 1.5, "response"),))
    long = Sampling(3 * BLOCK, 0)
    prompt = ours.chat.prompt_ids(LONG)
    answered = ours.engine.generate([prompt], graph, long, [0], end_ids=FREE)[0].ids
    assert list(theirs.engine.generate([prompt], graph, long, [0], end_ids=FREE)[0].ids) == list(answered)
    longer = [*prompt, *answered]
    (right,) = ours.engine.generate([longer], graph, GREEDY, [0], end_ids=FREE)
    (found,) = theirs.engine.generate([longer], graph, GREEDY, [0], end_ids=FREE)
    assert list(found.ids) == list(right.ids)
    assert torch.allclose(
        theirs.next_token_logits([longer], graph=graph), ours.next_token_logits([longer], graph=graph), atol=1e-3
    )


def test_coefficient_0_is_unsteered_to_the_bit(theirs):
    texts = [TokenisedAnswer(tuple(theirs.chat.prompt_ids(asked)), 9) for asked in ASKED]
    nothing = InterventionGraph(tuple(Write(layer, Add(direction(theirs)), 0.0) for layer in range(theirs.n_layers)))
    prompts = [text.ids for text in texts]
    assert torch.equal(theirs.next_token_logits(prompts, graph=nothing), theirs.next_token_logits(prompts))
    for plain, steered in zip(theirs.log_likelihood(texts), theirs.log_likelihood(texts, graph=nothing), strict=True):
        assert torch.equal(plain.token_log_probs, steered.token_log_probs)


def test_log_probabilities_are_the_oracles(ours, theirs):
    texts = [TokenisedAnswer(tuple(ours.chat.prompt_ids(LONG)), n) for n in (1, 40, 70)]
    every = list(graphs(ours).values())
    for right, found in zip(ours.log_likelihoods(texts, every), theirs.log_likelihoods(texts, every), strict=True):
        for one, other in zip(right, found, strict=True):
            torch.testing.assert_close(other.token_log_probs, one.token_log_probs, atol=1e-3, rtol=1e-3)


def test_captures_pooled_in_the_worker_are_the_oracles(ours, theirs):
    every = graphs(ours)
    reads = (Capture("answer"), Capture("all", "norm"), Capture("prompt_last"), Capture("prompt", "none", (1, 3)))
    texts = [TokenisedAnswer(tuple(ours.chat.prompt_ids(LONG)), n) for n in (3, 40, 70)]
    for name in ("unsteered", "added to the response", "capped"):
        graph = every[name] + InterventionGraph(reads)
        pairs = [(ours.capture(texts, graph), theirs.capture(texts, graph))]
        drawn = [model.generate(ASKED, graph=graph, sampling=DRAWN) for model in (ours, theirs)]
        assert [each.answer_ids for each in drawn[0]] == [each.answer_ids for each in drawn[1]]
        pairs.append(([each.captured for each in drawn[0]], [each.captured for each in drawn[1]]))
        for right, found in pairs:
            for one, other in zip(right, found, strict=True):
                assert set(one) == set(other)
                for capture, value in one.items():
                    torch.testing.assert_close(other[capture], value, atol=1e-4, rtol=1e-4)
    assert not theirs.engine._llm.llm_engine.has_unfinished_requests()


def test_a_request_that_is_preempted_is_steered_and_read_once(ours, monkeypatch):
    """Six answers of which the cache holds about three: vLLM throws requests out and runs them again."""
    small = vllm_model("organism-llama", chunk=64, caching=False, num_gpu_blocks_override=14, max_model_len=256)
    scheduler = small.engine._llm.llm_engine.engine_core.engine_core.scheduler
    thrown_out: list[Any] = []
    preempt = scheduler._preempt_request
    monkeypatch.setattr(scheduler, "_preempt_request", lambda *args, **how: (thrown_out.append(args), preempt(*args, **how)))
    graph = InterventionGraph((Write(2, Add(direction(ours)), 0.9, "response"), Capture("all"), Capture("answer")))
    long = Sampling(90, 1.0)
    prompts = [ours.chat.prompt_ids(Conversation.ask(text)) for text in ("How?", "Why is it so?", "What is a bee?")] * 2
    seeds = list(range(len(prompts)))
    right = ours.engine.generate(prompts, graph, long, seeds, end_ids=FREE)
    found = small.engine.generate(prompts, graph, long, seeds, end_ids=FREE)
    assert thrown_out
    assert [list(each.ids) for each in found] == [list(each.ids) for each in right]
    for one, other in zip(right, found, strict=True):
        for capture, value in one.captured.items():
            torch.testing.assert_close(other.captured[capture], value, atol=1e-4, rtol=1e-4)


def test_answers_are_told_while_they_are_written(ours, theirs):
    graph = graphs(ours)["added"]
    told: list[tuple[int, str]] = []
    found = theirs.generate(ASKED, graph=graph, sampling=GREEDY, on_text=lambda row, text: told.append((row, text)))
    for row, answer in enumerate(found):
        own = [text for at, text in told if at == row]
        assert len(own) >= len(answer.answer_ids)
        assert own[-1] == answer.text
        assert all(later.startswith(sooner) for sooner, later in pairwise(own))
    assert [answer.text for answer in found] == [answer.text for answer in ours.generate(ASKED, graph=graph, sampling=GREEDY)]


def test_n_2_of_one_request_is_steered_twice(ours, theirs):
    """As a server asks for it, through `extra_args` alone, the graph being part of the request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    llm, graph, ids = theirs.engine._llm, graphs(ours)["added to the response"], ours.chat.prompt_ids(LONG)
    params = SamplingParams(
        n=2, temperature=1, top_k=1, max_tokens=16, ignore_eos=True, detokenize=False,
        extra_args=PersonaRequest(graph=graph.to_json()).extra_args(), output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    llm.llm_engine.add_request("two", {"prompt_token_ids": ids, "cache_salt": cache_salt(graph, len(ids))}, params)
    outputs: list[Any] = []
    while llm.llm_engine.has_unfinished_requests():
        outputs += llm.llm_engine.step()
    (right,) = ours.engine.generate([ids], graph, GREEDY, [0], end_ids=FREE)
    assert [list(one.token_ids) for each in outputs for one in each.outputs] == [list(right.ids)] * 2


def test_a_graph_that_was_never_given_is_a_failure_of_its_request_alone(theirs):
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    llm = theirs.engine._llm.llm_engine
    params = SamplingParams(max_tokens=2, detokenize=False, extra_args=PersonaRequest(graph="unknown").extra_args())
    llm.add_request("astray", {"prompt_token_ids": [5, 6, 7]}, params)
    while llm.has_unfinished_requests():
        llm.step()
    with pytest.raises(PersonaInterpError, match="names graph unknown, which was not given"):
        theirs.engine._raise_failures()
    assert answers(theirs, ASKED, sampling=GREEDY), "and it goes on"
    with pytest.raises(VLLMValidationError, match="not a PersonaRequest"):
        llm.add_request("odd", {"prompt_token_ids": [5]}, SamplingParams(extra_args={"persona_interp": "{]"}))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda model: model.likelihood_gradient([TokenisedAnswer((5, 6, 7), 2)]), "which cannot take gradients"),
        (lambda model: model.unembed(torch.zeros(1, model.d_model)), "which cannot unembed"),
        (lambda model: model.bridge(), "which cannot hand out a PyTorch module"),
    ],
)
def test_what_it_lacks_is_refused_in_words(theirs: SteerableModel, what: Callable[[SteerableModel], Any], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        what(theirs)


@pytest.mark.real
def test_on_a_real_model_tokens_log_probabilities_and_captures_are_the_oracles():
    ours, theirs = smollm2(), vllm_model("smollm2-135m-instruct", chunk=64, max_model_len=512)
    every = {
        name: graph for name, graph in graphs(ours).items() if name in ("unsteered", "added", "added to the response", "ramped")
    }
    asked = [Conversation.ask(text) for text in ("What is a bicycle?", "How do bees make honey?", "Why?", "Who are you?")]
    reads = InterventionGraph((Capture("answer"), Capture("prompt_last")))
    graph = by_row(list(every.values())) + reads
    right, found = (model.generate(asked, graph=graph, sampling=Sampling(12, 0)) for model in (ours, theirs))
    assert [each.answer_ids for each in found] == [each.answer_ids for each in right]
    assert [each.answer_ids for each in right] != answers(ours, asked, sampling=Sampling(12, 0))
    for one, other in zip(right, found, strict=True):
        for capture, value in one.captured.items():
            apart = (other.captured[capture] - value).norm(dim=-1) / value.norm(dim=-1)
            assert float(apart.max()) < 1e-4
    texts = [TokenisedAnswer((*each.prompt_ids, *each.answer_ids), len(each.prompt_ids)) for each in right]
    for one, other in zip(ours.log_likelihood(texts, graph=graph), theirs.log_likelihood(texts, graph=graph), strict=True):
        torch.testing.assert_close(other.token_log_probs, one.token_log_probs, atol=1e-3, rtol=1e-3)
