"""What every engine must do, and refuse: one suite for nnsight, llama.cpp, and an engine in memory that knows neither.

A new engine is one more entry of `SUBJECTS`. What it does not claim in its `Capabilities` it must refuse before anything runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, get_args

import fake_engine
import pytest
import torch
from oracle import assert_not_close
from torch import Tensor
from vllm_models import vllm_model

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, ReadPositions, Reduction, Write, WritePositions
from persona_interp.interventions.operations import OPERATIONS, Add, Operation
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.registry import ENGINES
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

CLOSE = {"rtol": 1e-3, "atol": 1e-3}
ASKED = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "How do bees make honey? Bees collect it.")]
GREEDY, DRAWN = Sampling(8, 0), Sampling(8, 1.0, top_p=0.95, top_k=40)
WHOLE = Capture("all", "none")
TEXTS = [TokenisedAnswer(tuple(range(20, 38)), 9), TokenisedAnswer(tuple(range(40, 46)), 1), TokenisedAnswer((30, 31, 32), 3)]


def _nnsight(request: pytest.FixtureRequest) -> SteerableModel:
    return request.getfixturevalue("tiny_model")("llama")


def _llama_cpp(request: pytest.FixtureRequest) -> SteerableModel:
    return request.getfixturevalue("gguf_model")("organism-llama")


def _memory(request: pytest.FixtureRequest) -> SteerableModel:
    request.getfixturevalue("monkeypatch").setattr(ENGINES, "_found", dict(ENGINES))
    fake_engine.register()
    file = request.getfixturevalue("tmp_path") / "small.fake"
    file.write_text("3")
    return load_model(file)


def _vllm(request: pytest.FixtureRequest) -> SteerableModel:
    return vllm_model("organism-llama")


SUBJECTS: dict[str, Callable[[pytest.FixtureRequest], SteerableModel]] = {
    "nnsight": _nnsight,
    "llama.cpp": _llama_cpp,
    "memory": _memory,
}
if "PERSONA_INTERP_TEST_VLLM" in os.environ:  # in an environment of its own, see test_vllm.py
    SUBJECTS = {"vllm": _vllm}


@pytest.fixture(params=SUBJECTS)
def model(request: pytest.FixtureRequest) -> SteerableModel:
    return SUBJECTS[request.param](request)


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


def operations(model: SteerableModel, *, claimed: bool) -> list[Operation]:
    """One of every kind the engine claims, or of every other."""
    known = model.capabilities.operations
    kinds = [kind for kind in OPERATIONS.values() if (known is None or kind in known) is claimed]
    return [kind(direction(model), *[0.5] * len(kind.needs())) for kind in kinds]


def steering(model: SteerableModel) -> InterventionGraph:
    """A write at all tokens, one at a response, of one row alone where the engine can do that."""
    rows = (1, 2) if model.capabilities.rows else None
    first = model.first_steerable_layer
    return InterventionGraph(
        (Write(first, Add(direction(model))), Write(first + 1, Add(direction(model, 1)), 2.0, "response", rows))
    )


def ids_of(model: SteerableModel, graph: InterventionGraph | None = None, **options: Any) -> list[tuple[int, ...]]:
    return [answer.answer_ids for answer in model.generate(ASKED, graph=graph, **options)]


# -- answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_row_answers_alike_in_every_batch(model: SteerableModel, sampling: Sampling) -> None:
    graph, seeds = steering(model), row_seeds(3, len(ASKED))
    together = ids_of(model, graph, sampling=sampling, seed=3)
    alone = [
        model.generate([ASKED[row]], graph=graph.for_rows([row]), sampling=sampling, seed=[seeds[row]])[0].answer_ids
        for row in range(len(ASKED))
    ]
    assert together == alone
    assert together == ids_of(model, graph, sampling=sampling, seed=3, batch_size=2)
    assert together != ids_of(model, sampling=sampling, seed=3)
    assert (together == ids_of(model, graph, sampling=sampling, seed=4)) is (sampling is GREEDY)


def test_the_likeliest_next_token_is_what_a_greedy_answer_begins_with(model: SteerableModel) -> None:
    graph = steering(model)
    prompts = [model.chat.prompt_ids(asked) for asked in ASKED]
    logits = model.next_token_logits(prompts, graph=graph)
    assert logits.argmax(dim=1).tolist() == [ids[0] for ids in ids_of(model, graph, sampling=GREEDY)]
    assert_not_close(logits, model.next_token_logits(prompts))


def test_biases_and_end_tokens_are_heeded(model: SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = model.chat.prompt_ids(ASKED[0])[-2]
    monkeypatch.setattr(model.chat, "end_ids", frozenset[int]())
    assert ids_of(model, sampling=Sampling(3, 0, logit_bias={wanted: 1e4})) == [(wanted,) * 3] * 3
    free = ids_of(model, sampling=GREEDY)
    assert {len(ids) for ids in free} == {8}
    end = free[0][2]
    monkeypatch.setattr(model.chat, "end_ids", frozenset({end}))
    expected = [ids[: ids.index(end) + 1] if end in ids else ids for ids in free]
    assert ids_of(model, sampling=GREEDY) == expected
    assert [
        len(answer.ids)
        for answer in model.engine.generate(
            [model.chat.prompt_ids(asked) for asked in ASKED], InterventionGraph(), GREEDY, [0, 0, 0], end_ids=frozenset({end})
        )
    ] == [len(ids) for ids in expected]


def test_answers_and_readings_are_told_with_every_token(model: SteerableModel) -> None:
    read, last = Capture("answer", "none", (model.n_layers - 1,)), Capture("prompt_last")
    graph = steering(model) + InterventionGraph((read, last))
    told: dict[int, list[str]] = {row: [] for row in range(len(ASKED))}
    seen: dict[int, list[Any]] = {row: [] for row in range(len(ASKED))}
    answers = model.generate(
        ASKED,
        graph=graph,
        sampling=DRAWN,
        on_text=lambda row, text: told[row].append(text),
        on_captured=lambda row, captured: seen[row].append(captured),
    )
    for row, answer in enumerate(answers):
        assert (told[row] or [""])[-1] == answer.text
        # the newest token has not passed through the model yet
        assert len(seen[row]) == len(answer.answer_ids) - answer.finished
        for n, captured in enumerate(seen[row]):
            assert (read in captured) is (n > 0)
            torch.testing.assert_close(captured[last], answer.captured[last], **CLOSE)
            if n:
                torch.testing.assert_close(captured[read], answer.captured[read][:, :n], **CLOSE)
    assert ids_of(model, graph, sampling=DRAWN) == [answer.answer_ids for answer in answers], "nobody listening changes nothing"


# -- reading ------------------------------------------------------------------------------------------------------------


def test_every_capture_is_what_single_positions_say(model: SteerableModel) -> None:
    captures = [Capture(at, how) for at in get_args(ReadPositions) for how in get_args(Reduction)]
    graph = steering(model) + InterventionGraph((*captures, Capture("answer", "mean", (model.n_layers - 1,))))
    for row, found in enumerate(model.capture(TEXTS, graph)):
        text, (alone,) = TEXTS[row], model.capture([TEXTS[row]], graph.for_rows([row]))
        assert set(found) == set(alone)
        whole, n = found[WHOLE], text.n_prompt
        assert whole.shape == (model.n_layers, len(text.fed), model.d_model)
        parts = {"all": whole, "prompt": whole[:, :n], "prompt_last": whole[:, n - 1 : n], "answer": whole[:, n:]}
        for capture in graph.captures:
            part = parts[capture.positions][list(capture.layers_of(model.n_layers))]
            assert (capture in found) is bool(part.shape[1])
            if capture not in found:
                continue
            kept = part[:, 0] if capture.positions == "prompt_last" else part
            norm = part.norm(dim=-1, keepdim=True).mean(dim=1)
            torch.testing.assert_close(
                found[capture], {"none": kept, "mean": part.mean(1), "norm": norm}[capture.reduction], **CLOSE
            )
            torch.testing.assert_close(found[capture], alone[capture], **CLOSE)


def test_what_is_read_of_an_answer_while_it_is_written_is_read_of_it_afterwards(model: SteerableModel) -> None:
    """Steered: so answers are written to at the positions at which given texts are."""
    graph = steering(model) + InterventionGraph((WHOLE, Capture("answer"), Capture("prompt_last")))
    answers = model.generate(ASKED, graph=graph, sampling=DRAWN, seed=1)
    texts = [TokenisedAnswer(answer.prompt_ids + answer.answer_ids, len(answer.prompt_ids)) for answer in answers]
    for answer, again in zip(answers, model.capture(texts, graph), strict=True):
        assert set(answer.captured) == set(again) == set(graph.captures)
        for capture, value in again.items():
            torch.testing.assert_close(answer.captured[capture], value, **CLOSE)


# -- scoring ------------------------------------------------------------------------------------------------------------


def test_likelihoods_are_those_of_one_token_after_the_other(model: SteerableModel) -> None:
    graphs = [InterventionGraph(), steering(model), InterventionGraph((Write(model.n_layers - 1, Add(direction(model))),))]
    for graph, found in zip(graphs, model.log_likelihoods(TEXTS, graphs), strict=True):
        for row, text in enumerate(TEXTS):
            own = graph.for_rows([row])
            (alone,) = model.log_likelihood([text], graph=own)
            torch.testing.assert_close(found[row].token_log_probs, alone.token_log_probs, **CLOSE)
            if all(write.positions == "all" for write in own.writes):  # a prefix is a prompt, all of it
                prefixes = [text.ids[:end] for end in range(text.n_prompt, len(text.ids))]
                scores = model.next_token_logits(prefixes, graph=own).log_softmax(dim=-1)[
                    range(len(prefixes)), list(text.answer_ids)
                ]
                torch.testing.assert_close(alone.token_log_probs, scores, **CLOSE)


def test_gradients_are_what_small_pushes_do_or_are_refused(model: SteerableModel) -> None:
    texts, layers = TEXTS[:2], range(model.first_steerable_layer, model.n_layers)
    if not model.capabilities.gradients:
        with pytest.raises(UnsupportedError, match=f"{model.capabilities.engine}, which cannot take gradients; .*'torch' can"):
            model.likelihood_gradient(texts)
        return
    slopes = model.likelihood_gradient(
        texts, layers, weights=[torch.full((len(text.answer_ids),), 1 / len(text.answer_ids)) for text in texts]
    ) @ direction(model)
    pushes = [InterventionGraph((Write(layer, Add(direction(model)), sign * 1e-3),)) for layer in layers for sign in (-1, 1)]
    means = torch.tensor(
        [[float(each.token_log_probs.mean()) for each in found] for found in model.log_likelihoods(texts, pushes)]
    )
    torch.testing.assert_close(slopes, (means[1::2] - means[::2]).T / 2e-3, rtol=2e-2, atol=5e-3)
    assert float(slopes.abs().max()) > 1e-2


def test_the_last_residual_unembeds_to_the_next_token_or_that_is_refused(model: SteerableModel) -> None:
    text = TokenisedAnswer(TEXTS[0].ids, len(TEXTS[0].ids))
    last = model.capture([text], InterventionGraph((WHOLE,)))[0][WHOLE][-1, -1:]
    if not model.capabilities.unembedding:
        with pytest.raises(UnsupportedError, match=f"{model.capabilities.engine}, which cannot unembed .*'torch' can"):
            model.unembed(last)
        return
    torch.testing.assert_close(model.unembed(last), model.next_token_logits([text.ids]), **CLOSE)


# -- steering -----------------------------------------------------------------------------------------------------------


def written(write: Write, resid: Tensor, text: TokenisedAnswer, row: int) -> Tensor:
    """What a block puts out where `resid` ``[pos d_model]`` is what it would put out unwritten."""
    place = torch.arange(len(resid))
    steps = (place - text.n_prompt + 1).clamp(min=0)
    factors = torch.tensor([write.schedule.factor(int(step)) if write.schedule else 1.0 for step in steps])
    operation, resid = write.operation, resid[None]
    scalars = {name: torch.full((1, 1, 1), value) for name, value in operation.scalars().items()}
    coefficient = (write.coefficient * factors).view(1, -1, 1)
    moved = type(operation).transform(resid, operation.direction.view(1, 1, -1), coefficient, **scalars)
    where = {"all": place >= 0, "prompt": place < text.n_prompt, "response": place >= text.n_prompt - 1}[write.positions]
    if write.condition is not None:
        condition = write.condition
        numbers = {name: torch.full((1, 1, 1), value) for name, value in condition.scalars().items()}
        where = where & condition.holds(resid, condition.direction.view(1, 1, -1), **numbers)[0]
    if write.rows is not None and row not in write.rows:
        where = torch.zeros_like(where)
    return torch.where(where.unsqueeze(1), moved[0], resid[0])


def writes(model: SteerableModel, *, claimed: bool) -> list[Write]:
    """One write of every kind that the engine claims, or of every other."""
    can, layer = model.capabilities, min(model.first_steerable_layer + 1, model.n_layers - 1)
    add = Add(direction(model))
    found = [Write(layer, operation, 0.7) for operation in operations(model, claimed=claimed)]
    found += [Write(layer, add, 0.7, at) for at in get_args(WritePositions) if (at in can.positions) is claimed]
    if can.conditions is claimed:
        found.append(Write(layer, add, condition=ProjectionCondition(direction(model, 2), 0.1)))
    if can.schedules is claimed:
        found.append(Write(layer, add, schedule=LinearRamp(0.2, 1, 3)))
    if can.rows is claimed:
        found.append(Write(layer, add, rows=(1,)))
    reachable = range(can.first_layer, model.n_layers) if claimed else range(can.first_layer)
    return found + [Write(each, add, -1.3) for each in reachable]


def test_every_write_it_claims_is_made_where_it_is_asked_for_and_nowhere_else(model: SteerableModel) -> None:
    """Seen in texts of different lengths, of which most have pads in the batch, if the engine pads."""
    read = InterventionGraph((WHOLE,))
    plain = [found[WHOLE] for found in model.capture(TEXTS, read)]
    for write in writes(model, claimed=True):
        steered = [found[WHOLE] for found in model.capture(TEXTS, InterventionGraph((write,)) + read)]
        for row, (before, after, text) in enumerate(zip(plain, steered, TEXTS, strict=True)):
            torch.testing.assert_close(after[: write.layer], before[: write.layer], **CLOSE)
            torch.testing.assert_close(after[write.layer], written(write, before[write.layer], text, row), **CLOSE)
        assert_not_close(torch.cat([*map(torch.flatten, steered)]), torch.cat([*map(torch.flatten, plain)]))


def test_what_it_does_not_claim_is_refused_before_anything_runs(model: SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("generate", "capture", "log_probs", "next_logits"):
        monkeypatch.setattr(model.engine, name, lambda *_args, **_options: pytest.fail("it ran"))
    for write in writes(model, claimed=False):
        graph = InterventionGraph((write, WHOLE))
        verbs: list[Callable[[], Any]] = [
            lambda: model.generate(ASKED, graph=graph),  # noqa: B023  (called at once)
            lambda: model.capture(TEXTS, graph),  # noqa: B023
            lambda: model.log_likelihood(TEXTS, graph=graph),  # noqa: B023
            lambda: model.next_token_logits([[5]], graph=InterventionGraph((write,))),  # noqa: B023
        ]
        for verb in verbs:
            with pytest.raises(
                UnsupportedError, match=rf"{model.name} runs in {model.capabilities.engine}, which .* engine 'torch'"
            ):
                verb()
    if not model.capabilities.module:
        with pytest.raises(
            UnsupportedError, match=".TransformerLens, .*; on this machine engine 'torch' or 'transformer_lens' can"
        ):
            model.bridge()


@pytest.mark.parametrize("told", ["on_text", "on_captured", "on_generation"])
def test_nothing_stays_attached_after_an_error(model: SteerableModel, told: str) -> None:
    graph = steering(model) + InterventionGraph((WHOLE,))
    plain, steered = ids_of(model, sampling=GREEDY), ids_of(model, graph, sampling=GREEDY)
    read = model.capture(TEXTS, InterventionGraph((WHOLE,)))
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt("broken on purpose")

    with pytest.raises(KeyboardInterrupt, match="broken on purpose"):
        model.generate(ASKED, graph=graph, sampling=GREEDY, batch_size=1, **{told: fail})
    assert ids_of(model, sampling=GREEDY) == plain
    assert ids_of(model, graph, sampling=GREEDY) == steered
    for one, other in zip(read, model.capture(TEXTS, InterventionGraph((WHOLE,))), strict=True):
        assert torch.equal(one[WHOLE], other[WHOLE])
