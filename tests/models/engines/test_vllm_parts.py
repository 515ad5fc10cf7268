"""The parts of the vLLM engine that know nothing of vLLM: slot map, bank, pooled captures, requests and salts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError, MissingExtraError
from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add, Cap, Clamp
from persona_interp.interventions.positions import Spans, prefill_masks
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.batching import PACKED, buckets
from persona_interp.models.engines.vllm.bank import Bank
from persona_interp.models.engines.vllm.pooled import PooledReads
from persona_interp.models.engines.vllm.replicas import Replicas, gpus_of
from persona_interp.models.engines.vllm.request import EXTRA_KEY, PersonaRequest, cache_salt, graph_of
from persona_interp.models.engines.vllm.slot_map import Scheduled, SlotMap
from persona_interp.models.registry import load_model

WIDTH, LAYERS = 8, 3
CPU = torch.device("cpu")
ROWS = ((9, 4), (5, 5), (7, 1), (6, 3))
"""Tokens of each request, and how many of them are its prompt."""


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape or (WIDTH,), generator=torch.Generator().manual_seed(seed))


GRAPHS = (
    InterventionGraph((Write(1, Add(drawn(0)), 0.7, schedule=LinearRamp(0.5, 1, 3)), Write(1, Cap(drawn(1), -0.2)))),
    InterventionGraph((Write(1, Ablate(drawn(2)), 0.5, "response"), Write(2, Add(drawn(3)), -1.0, "prompt"))),
    InterventionGraph(),
    InterventionGraph((Write(1, Clamp(drawn(4), 2.0), 1.0, "response", condition=ProjectionCondition(drawn(5), 0.0)),)),
)


def pieces(chunk: int) -> list[list[tuple[int, int, int]]]:
    """Steps of at most `chunk` tokens a request: (request, first position, tokens)."""
    longest = max(n for n, _ in ROWS)
    return [
        [(row, start, min(chunk, n - start)) for row, (n, _) in enumerate(ROWS) if start < n]
        for start in range(0, longest, chunk)
    ]


@pytest.mark.parametrize("chunk", [1, 2, 4, 9])
def test_tokens_of_any_pieces_are_written_as_in_a_padded_batch(chunk: int) -> None:
    width = max(n for n, _ in ROWS)
    resid = drawn(9, len(ROWS), width, WIDTH)
    real = torch.tensor([[place < n for place in range(width)] for n, _ in ROWS])
    own = tuple(replace(write, rows=(row,)) for row, graph in enumerate(GRAPHS) for write in graph.writes)
    masks = prefill_masks(Spans(real, torch.tensor([n_prompt for _, n_prompt in ROWS])))
    stacked, bank = stack_writes(InterventionGraph(own), len(ROWS)), Bank(CPU)
    for layer in range(LAYERS):
        expected = stacked.apply(layer, resid, masks)
        found = resid.clone()
        for step in pieces(chunk):
            slots = SlotMap([Scheduled(bank.row(str(row), GRAPHS[row]), start, n, ROWS[row][1]) for row, start, n in step])
            flat = torch.cat([resid[row, start : start + n] for row, start, n in step])
            for write in bank.writes(slots).get(layer, ()):
                flat = write.apply(flat)
            for (row, start, n), own_tokens in zip(step, flat.split([n for _, _, n in step]), strict=True):
                found[row, start : start + n] = own_tokens
        torch.testing.assert_close(found[real], expected[real])
        assert torch.equal(found[2], resid[2]), "who is not steered keeps every bit"


def test_layers_that_a_step_does_not_write_to_are_left_alone() -> None:
    bank = Bank(CPU)
    row = bank.row("one", GRAPHS[1])
    answering, reading = SlotMap([Scheduled(row, 6, 1, 5)]), SlotMap([Scheduled(row, 0, 3, 5)])
    assert set(bank.writes(answering)) == {1}
    assert set(bank.writes(reading)) == {2}
    assert bank.writes(SlotMap([Scheduled(bank.row("none", GRAPHS[2]), 0, 3, 5)])) == {}


@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_pooled_reads_are_those_of_a_padded_batch_also_when_a_request_runs_twice(chunk: int) -> None:
    captures = tuple(
        Capture(at, how, layers)
        for at in ("all", "prompt", "prompt_last", "answer")
        for how, layers in (("mean", None), ("norm", (1,)), ("none", (0, 2)))
    )
    width = max(n for n, _ in ROWS)
    resid = drawn(3, LAYERS, len(ROWS), width, WIDTH)
    real = torch.tensor([[place < n for place in range(width)] for n, _ in ROWS])
    readouts = Readouts(captures, LAYERS)
    readouts.begin_prefill(Spans(real, torch.tensor([n_prompt for _, n_prompt in ROWS])))
    pooled = PooledReads(LAYERS, CPU)
    for layer in range(LAYERS):
        readouts.read(layer, resid[layer])
    readouts.end()
    for step in pieces(chunk) + pieces(4):  # the second time as after a preemption
        places = torch.tensor([n for _, _, n in step]).cumsum(0).tolist()
        told = [
            (pooled.request(f"r{row}", captures, ROWS[row][1]), start, n, end - n)
            for (row, start, n), end in zip(step, places, strict=True)
        ]
        reads = pooled.step(told)
        for layer in range(LAYERS):
            flat = torch.cat([resid[layer, row, start : start + n] for row, start, n in step])
            if reads is not None:
                pooled.take(reads, layer, flat)
    for row in range(len(ROWS)):
        expected = readouts.result(row)
        found = {capture: value for capture, value in zip(captures, pooled.values(f"r{row}"), strict=True) if value is not None}
        assert set(found) == set(expected)
        for capture, value in expected.items():
            torch.testing.assert_close(found[capture], value)
    pooled.forget(["r0", "r1"])
    assert pooled.values("r0") == []
    again = pooled.step([(pooled.request("new", captures, 2), 0, 3, 0)])
    assert again is not None
    for layer in range(LAYERS):
        pooled.take(again, layer, resid[layer, 0, :3])
    torch.testing.assert_close(pooled.values("new")[0], resid[:, 0, :3].mean(dim=1), msg="a slot that was given back begins at 0")


def test_a_request_carries_plain_text_and_comes_back() -> None:
    graph = GRAPHS[0]
    request = PersonaRequest(graph=graph.to_json(), n_prompt=3, key="r7", sampling={"temperature": 1.0}, seed=2**56, logits=True)
    extra = request.extra_args()
    assert {type(value) for value in extra.values()} == {str}
    assert PersonaRequest.from_extra_args({**extra, "other": 1}) == request
    assert graph_of(request, {}) == graph
    assert PersonaRequest.from_extra_args(None) is None
    assert PersonaRequest.from_extra_args({"other": 1}) is None
    assert graph_of(PersonaRequest(), {}) == InterventionGraph()
    assert graph_of(PersonaRequest(graph="known"), {"known": graph}) is graph
    with pytest.raises(InvalidInputError, match="graph strange, which was not given"):
        graph_of(PersonaRequest(graph="strange"), {"known": graph})
    for broken in ("{]", '{"graf": 1}', "[]", 7):
        with pytest.raises(FileFormatError, match="not a PersonaRequest"):
            PersonaRequest.from_extra_args({EXTRA_KEY: broken})


def test_salts_keep_apart_what_leaves_other_keys_and_values_and_nothing_else() -> None:
    def salt(n_prompt: int = 5, **changed: Any) -> str | None:
        write = replace(Write(2, Add(drawn(0)), 0.5), **changed)
        return cache_salt(InterventionGraph((write,)), n_prompt)

    assert cache_salt(InterventionGraph((Capture("answer"),)), 5) is None
    different = [
        salt(),
        salt(coefficient=0.6),
        salt(layer=3),
        salt(operation=Add(drawn(1))),
        salt(operation=Ablate(drawn(0))),
        salt(positions="response"),
        salt(positions="response", n_prompt=6),
        salt(positions="prompt"),
        salt(schedule=LinearRamp(0, 1, 3)),
    ]
    assert len(set(different)) == len(different)
    assert salt(n_prompt=6) == salt(), "at all tokens alike: what a token leaves does not depend on where its prompt ends"
    graph = InterventionGraph((Write(2, Add(drawn(0)), 0.5),))
    assert cache_salt(graph + InterventionGraph((Capture("answer"),)), 5) == cache_salt(graph, 5)


def test_an_engine_that_packs_rows_is_given_many_at_a_time() -> None:
    assert [len(rows) for rows in buckets([4000] * 1500, None, PACKED)] == [1024, 476]
    assert [len(rows) for rows in buckets([4000] * 10, 4, PACKED)] == [4, 4, 2]


def test_replicas_share_rows_and_put_results_back_in_order() -> None:
    import fake_engine

    from persona_interp.models.sampling import Sampling

    alone, shared = fake_engine.FakeEngine(3), Replicas([fake_engine.FakeEngine(3), fake_engine.FakeEngine(3)])
    prompts = [[5, 6], [7], [9, 8, 7], [20, 21], [30]]
    own = InterventionGraph((Write(1, Add(torch.ones(fake_engine.WIDTH)), 1.0, rows=(1, 4)), Capture("all")))
    words = (prompts, own, Sampling(6, 1.0), [1, 2, 3, 4, 5])
    told: list[int] = []

    def listen(step: Any) -> list[bool]:
        told.extend(step.rows)
        return [False] * len(step.rows)

    for one, other in zip(
        alone.generate(*words, end_ids=frozenset()), shared.generate(*words, end_ids=frozenset(), on_step=listen), strict=True
    ):
        assert list(one.ids) == list(other.ids)
        for capture, value in one.captured.items():
            assert torch.equal(other.captured[capture], value)
    assert sorted(told) == sorted(list(range(5)) * 6)
    assert torch.equal(shared.next_logits(prompts, own), alone.next_logits(prompts, own))

    def break_off(step: Any) -> list[bool]:
        raise KeyboardInterrupt("pressed")

    with pytest.raises(KeyboardInterrupt, match="pressed"):
        shared.generate(*words, end_ids=frozenset(), on_step=break_off)


def test_each_replica_is_shown_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    with gpus_of(1, 2, 2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    with pytest.raises(InvalidInputError, match="3 replicas of 2 GPUs need 6, and 4 are here"), gpus_of(0, 3, 2):
        pass


def test_options_of_vllm_are_refused_elsewhere_and_its_absence_is_told() -> None:
    for options in ({"tensor_parallel_size": 2}, {"replicas": 2}, {"engine_options": {"max_model_len": 8}}):
        with pytest.raises(InvalidInputError, match="are of engine 'vllm', and organism-llama runs on 'torch'"):
            load_model("organism-llama", **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="replicas 0: give at least 1"):
        load_model("organism-llama", engine="vllm", replicas=0)
    with pytest.raises(InvalidInputError, match="device and quantization say how PyTorch holds a model"):
        load_model("organism-llama", engine="vllm", device="cpu", quantization="8bit")
    with pytest.raises(MissingExtraError, match=r"persona-interp\[vllm\]"):
        load_model("organism-llama", engine="vllm")
