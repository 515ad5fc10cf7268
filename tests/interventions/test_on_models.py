"""Every operation, condition and schedule on real architectures, through nnsight and through plain hooks, against bare hooks that
write one unpadded text position by position, without a cache and with none of the package's arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import naive_writes
import oracle
import pytest
import torch
from torch import Tensor

from persona_interp.interventions.compile.model_call import cache_name, cache_of
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Ablate, AblateThenAdd, Add, AddPreservingNorm, Cap, Clamp, Operation
from persona_interp.interventions.schedules import ExponentialDecay, LinearRamp, Schedule, StepTable
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
N = 7
GREEDY = Sampling(max_new_tokens=N, temperature=0)
EVERY = Capture("all", "none")
ASKED = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "What is the capital of the country?")]

OPERATIONS: dict[str, Callable[[Tensor], Operation]] = {
    "add": Add,
    "add_preserving_norm": AddPreservingNorm,
    "ablate": Ablate,
    "ablate_then_add": AblateThenAdd,
    "clamp": lambda direction: Clamp(direction, 6.0),
    "cap": lambda direction: Cap(direction, -2.0),
}


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 2


def mixed(model: SteerableModel) -> InterventionGraph:
    """Each row has its own operations, layers, coefficients, conditions and schedules; two writes meet at one layer."""
    a, b, c = (direction(model, seed) for seed in (1, 2, 3))
    return InterventionGraph(
        (
            Write(0, Clamp(a, 4.0), 0.8, "response", (0,), schedule=LinearRamp(0, 1, 4)),
            Write(1, Add(b), 1.5, "all", (0, 1), ProjectionCondition(c, 0.3)),
            Write(1, Ablate(b), 1.0, "all", (1, 2)),
            Write(1, Add(c), 2.0, "prompt", (2,), ProjectionCondition(c, 0.1, "below")),
            Write(2, Cap(a, -4.0), 1.0, "response", (1,), ProjectionCondition(b, 0.5, "below"), StepTable((1.0, 0.0, 0.5))),
            Write(2, Cap(c, -4.0), 1.0, "response", (2,), ProjectionCondition(a, 0.2), ExponentialDecay(2)),
            Write(2, AddPreservingNorm(c), 1.0, "response", schedule=StepTable.until(3)),
        )
    )


def padded(model: SteerableModel, rows: Sequence[Sequence[int]], side: str = "left") -> dict[str, Tensor]:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for row, tokens in enumerate(rows):
        where = slice(width - len(tokens), None) if side == "left" else slice(0, len(tokens))
        ids[row, where], mask[row, where] = torch.tensor(list(tokens)), 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def check_everything(model: SteerableModel, graph: InterventionGraph) -> list[Generation]:
    """generate, capture and log_likelihood through nnsight, and generate through plain hooks, all against bare ones."""
    answers = model.generate(ASKED, graph=InterventionGraph((*graph.writes, EVERY)), sampling=GREEDY)
    texts = [TokenisedAnswer(answer.prompt_ids + answer.answer_ids, len(answer.prompt_ids)) for answer in answers]
    captured = model.capture(texts, InterventionGraph((*graph.writes, EVERY)))
    likelihoods = model.log_likelihood(texts, graph=graph)
    batch = padded(model, [answer.prompt_ids for answer in answers])
    del batch["position_ids"]  # generate() makes its own
    with steered(model.hf_model, graph) as hf_model:
        settings = {"max_new_tokens": N, "do_sample": False, "pad_token_id": 0, "eos_token_id": sorted(model.chat.end_ids)}
        tokens = hf_model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :].tolist()
    for row, answer in enumerate(answers):
        n_prompt, n = len(answer.prompt_ids), len(answer.answer_ids)
        assert answer.answer_ids == naive_writes.greedy(
            model.hf_model, answer.prompt_ids, N, graph.writes, model.chat.end_ids, row
        )
        assert tuple(tokens[row][:n]) == answer.answer_ids
        logits, outputs = naive_writes.forward(model.hf_model, texts[row].ids[:-1], n_prompt, graph.writes, row)
        torch.testing.assert_close(answer.captured[EVERY], outputs, **CLOSE)
        torch.testing.assert_close(captured[row][EVERY], outputs, **CLOSE)
        expected = logits[n_prompt - 1 :].log_softmax(dim=-1)[torch.arange(n), list(answer.answer_ids)]
        torch.testing.assert_close(likelihoods[row].token_log_probs, expected, **CLOSE)
    return answers


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("positions", ["all", "response"])
def test_each_operation_equals_bare_hooks_on_every_way_through_a_model(
    tiny_model: TinyModel, kind: str, positions: WritePositions
) -> None:
    model = tiny_model("llama")
    graph = InterventionGraph((Write(1, OPERATIONS[kind](direction(model)), 1.0, positions),))
    answers = check_everything(model, graph)
    for answer in answers:
        n_prompt = len(answer.prompt_ids)
        _, plain = oracle.forward(model.hf_model, (answer.prompt_ids + answer.answer_ids)[:-1])
        oracle.assert_not_close(answer.captured[EVERY][1:, n_prompt - 1 :], plain[1:, n_prompt - 1 :])
        if positions == "response":
            torch.testing.assert_close(answer.captured[EVERY][:, : n_prompt - 1], plain[:, : n_prompt - 1], **CLOSE)


def test_rows_with_their_own_operations_conditions_and_schedules_equal_bare_hooks_and_separate_calls(
    tiny_model: TinyModel, architecture: str
) -> None:
    model = tiny_model(architecture)
    graph = mixed(model)
    answers = check_everything(model, graph)
    for row, answer in enumerate(answers):
        (alone,) = model.generate([ASKED[row]], graph=graph.for_rows([row]), sampling=GREEDY)
        assert alone.answer_ids == answer.answer_ids
    again = model.generate(ASKED, graph=graph, sampling=GREEDY, batch_size=2)
    assert [answer.answer_ids for answer in again] == [answer.answer_ids for answer in answers]


def test_each_part_of_the_mixed_graph_does_something(tiny_model: TinyModel) -> None:
    """Else the test above would compare nothing: every condition holds somewhere and fails somewhere, every schedule counts."""
    model = tiny_model("llama")
    writes = mixed(model).writes
    answers = model.generate(ASKED, graph=InterventionGraph(writes), sampling=GREEDY)
    texts = [TokenisedAnswer(answer.prompt_ids + answer.answer_ids, len(answer.prompt_ids)) for answer in answers]

    def residuals(*nodes: Write) -> Tensor:
        captured = model.capture(texts, InterventionGraph((*nodes, EVERY)))
        return torch.cat([row[EVERY].flatten() for row in captured])

    whole = residuals(*writes)
    for place, write in enumerate(writes):
        without = [replace(write, condition=None)] if write.condition else []
        without += [replace(write, schedule=None)] if write.schedule else []
        for variant in [(), *((other,) for other in without)]:
            oracle.assert_not_close(residuals(*writes[:place], *variant, *writes[place + 1 :]), whole)


SCHEDULES: list[Schedule] = [LinearRamp(0, 1.5, 5), ExponentialDecay(1.5), StepTable((0.0, 2.0, -1.0, 0.5))]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_schedule_gives_the_same_tokens_through_plain_hooks_with_and_without_a_cache(
    tiny_model: TinyModel, schedule: Schedule, use_cache: bool
) -> None:
    model = tiny_model("qwen2")
    graph = InterventionGraph((Write(1, Add(direction(model)), 1.0, "response", schedule=schedule),))
    batch = padded(model, [model.chat.prompt_ids(conversation) for conversation in ASKED])
    del batch["position_ids"]
    settings = {"max_new_tokens": N, "do_sample": False, "use_cache": use_cache, "pad_token_id": 0}
    with steered(model.hf_model, graph) as hf_model:
        tokens = [hf_model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :].tolist() for _ in range(2)]
    assert tokens[0] == tokens[1]  # the second answer begins at step 0 again
    answers = model.generate(ASKED, graph=graph, sampling=GREEDY)
    for row, answer in enumerate(answers):
        assert tuple(tokens[0][row][: len(answer.answer_ids)]) == answer.answer_ids
    unscheduled = InterventionGraph((Write(1, Add(direction(model)), 1.0, "response"),))
    without = model.generate(ASKED, graph=unscheduled, sampling=GREEDY)
    assert [answer.answer_ids for answer in without] != [answer.answer_ids for answer in answers]


def residuals_after(model: SteerableModel, layer: int, calls: Callable[[], Any]) -> list[Tensor]:
    """What the blocks hand on at `layer`, pads included: read where the next block receives it."""
    seen: list[Tensor] = []

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    handle = oracle.blocks_of(model.hf_model)[layer + 1].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            calls()
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", OPERATIONS)
def test_pads_are_never_written(tiny_model: TinyModel, kind: str) -> None:
    """Through nnsight (left pads) and through plain hooks (either side), with a condition that holds everywhere."""
    model = tiny_model("llama")
    v = direction(model)
    operation = Cap(v, -50.0) if kind == "cap" else OPERATIONS[kind](v)  # below every projection, so that each is moved
    everywhere = ProjectionCondition(v, -1e6)
    graph = InterventionGraph((Write(1, operation, 1.0, "all", None, everywhere, LinearRamp(1, 0.5, 3)),))
    prompts = [tuple(model.chat.prompt_ids(conversation)) for conversation in ASKED]
    for side in ("left", "right"):
        batch = padded(model, prompts, side)
        real, call = batch["attention_mask"].bool(), functools.partial(model.hf_model, **batch, use_cache=False)
        (before,) = residuals_after(model, 1, call)
        with steered(model.hf_model, graph):
            (after,) = residuals_after(model, 1, call)
        assert torch.equal(after[~real], before[~real])
        assert bool((after - before)[real].abs().amax(dim=-1).gt(1e-3).all())
        assert not bool(real.all())
    plain = residuals_after(model, 1, lambda: model.next_token_logits(prompts))
    steered_too = residuals_after(model, 1, lambda: model.next_token_logits(prompts, graph=graph))
    for before, after in zip(plain, steered_too, strict=True):
        moved = (after - before).abs().amax(dim=-1)
        assert torch.equal((moved > 0).sum(dim=1), torch.tensor(sorted(map(len, prompts), reverse=True)))
        assert bool((moved == 0).any())


def test_a_prompt_and_answer_in_one_call_and_what_follows_from_its_cache_are_counted_on(tiny_model: TinyModel) -> None:
    """Two rows with answers of different lengths, padded on the right, then two more tokens each from the cache."""
    model = tiny_model("llama")
    ramp = Write(1, Add(direction(model)), 1.0, "response", schedule=StepTable(tuple(0.1 * step for step in range(12))))
    rows, n_prompt = [tuple(range(20, 30)), tuple(range(40, 47))], [6, 5]  # 4 answer tokens, 2 answer tokens
    batch, later = padded(model, rows, "right"), torch.tensor([[50, 51], [60, 61]])
    mask = torch.cat([batch["attention_mask"], torch.ones(2, 2, dtype=torch.long)], dim=1)

    def calls() -> None:
        cache = cache_of(model.hf_model(**batch, use_cache=True))
        for k in range(2):
            model.hf_model(
                input_ids=later[:, k : k + 1],
                attention_mask=mask[:, : 11 + k],
                position_ids=torch.tensor([[10 + k], [7 + k]]),
                **{cache_name(model.hf_model): cache},
            )

    before = residuals_after(model, 1, calls)
    with steered(model.hf_model, InterventionGraph((ramp,)), n_prompt=n_prompt):
        after = residuals_after(model, 1, calls)
    steps = [
        ((late - early) @ direction(model) / direction(model).square().sum() * 10).round()
        for early, late in zip(before, after, strict=True)
    ]
    assert steps[0].tolist() == [[0, 0, 0, 0, 0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1, 2, 0, 0, 0]]
    assert [step.flatten().tolist() for step in steps[1:]] == [[5, 3], [6, 4]]


def test_a_cache_filled_elsewhere_is_taken_for_the_prompt(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    table = StepTable((9.0, 0.1, 0.2, 0.3))
    graph = InterventionGraph((Write(1, Add(direction(model)), 1.0, "response", schedule=table),))

    def calls(cache: Any) -> None:
        for token in (8, 9):
            model.hf_model(torch.tensor([[token]]), **{cache_name(model.hf_model): cache})

    with torch.no_grad():
        caches = [cache_of(model.hf_model(torch.tensor([[5, 6, 7]]), use_cache=True)) for _ in range(2)]
    before = residuals_after(model, 1, lambda: calls(caches[0]))
    with steered(model.hf_model, graph):
        after = residuals_after(model, 1, lambda: calls(caches[1]))
    v = direction(model)
    moved = [float((late - early)[0, 0] @ v / v.square().sum()) for early, late in zip(before, after, strict=True)]
    assert moved == pytest.approx([0.1, 0.2], abs=1e-4)
