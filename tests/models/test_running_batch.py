"""Rows that come and go between steps say what each says alone, whatever runs beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from tiny import ARCHITECTURES, MORE_ARCHITECTURES, tiny_hf_model, tiny_tokenizer

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add, Cap
from persona_interp.interventions.schedules import ExponentialDecay
from persona_interp.models.engines.nnsight.running_batch import RunningBatch, RunningRow
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel

GREEDY = Sampling(12, 0.0)


def direction(model: SteerableModel, seed: int) -> torch.Tensor:
    return 2.0 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))


def graphs(model: SteerableModel) -> list[InterventionGraph]:
    """Nothing, and writes of every sort of position, some of which stack with each other and some do not."""
    last = model.n_layers - 1
    return [
        InterventionGraph(),
        InterventionGraph((Write(1, Add(direction(model, 0)), 1.0),)),
        InterventionGraph((Write(1, Add(direction(model, 1)), -1.5, "response"),)),
        InterventionGraph((Write(0, Add(direction(model, 2)), 2.0, "prompt"),)),
        InterventionGraph(
            (Write(1, Add(direction(model, 3)), 3.0, schedule=ExponentialDecay(2.0)), Write(last, Ablate(direction(model, 4))))
        ),
        InterventionGraph((Write(1, Cap(direction(model, 5), -0.5)), Write(1, Add(direction(model, 6)), 0.5))),
    ]


def prompts(n_ids: int, n: int) -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(5, n_ids) for _ in range(rng.randrange(1, 20))] for _ in range(n)]


def answered(batch: RunningBatch, rows: Sequence[RunningRow], arrivals: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Greedy answers of so many tokens, each row admitted at its own step."""
    answers: dict[int, list[int]] = {id(row): [] for row in rows}
    limit = {id(row): length for row, length in zip(rows, lengths, strict=True)}
    for step in range(max(arrivals) + max(lengths) + 1):
        if batch.rows:
            for row, logits in zip(batch.rows, batch.step([answers[id(row)][-1] for row in batch.rows]), strict=True):
                answers[id(row)].append(int(logits.argmax()))
        new = [row for row, arrival in zip(rows, arrivals, strict=True) if arrival == step]
        if new:
            for row, logits in zip(new, batch.admit(new), strict=True):
                answers[id(row)].append(int(logits.argmax()))
        batch.keep([place for place, row in enumerate(batch.rows) if len(answers[id(row)]) < limit[id(row)]])
    assert batch.rows == []
    return [answers[id(row)] for row in rows]


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_rows_that_come_and_go_say_what_each_says_alone(name: str) -> None:
    tokenizer = tiny_tokenizer(name)
    model = SteerableModel(tiny_hf_model(name, tokenizer), tokenizer, name=name)
    before = {key: value.clone() for key, value in model.hf_model.state_dict().items()}
    each = [(prompt, graph) for prompt, graph in zip(prompts(len(tokenizer), 12), graphs(model) * 2, strict=True)]
    alone = [list(model.engine.generate([prompt], graph, GREEDY, [0], end_ids=frozenset())[0].ids) for prompt, graph in each]
    assert len({tuple(ids) for ids in alone}) > 8
    rows = [RunningRow(prompt, graph) for prompt, graph in each]
    arrivals, lengths = [0, 0, 1, 1, 1, 3, 4, 8, 8, 30, 30, 31], [12, 3, 12, 1, 7, 12, 2, 12, 5, 12, 4, 12]
    found = answered(model.engine.running_batch(), rows, arrivals, lengths)
    assert found == [ids[:length] for ids, length in zip(alone, lengths, strict=True)]
    assert all(torch.equal(value, before[key]) for key, value in model.hf_model.state_dict().items())
    assert not any(module._forward_hooks for module in model.hf_model.modules())


def test_logits_are_those_of_the_row_alone(tiny_model) -> None:
    model = tiny_model("llama")
    graph = graphs(model)[1]
    row, other = prompts(300, 2)
    batch = model.engine.running_batch()
    assert torch.allclose(batch.admit([RunningRow(row, graph)])[0], model.engine.next_logits([row], graph)[0], atol=1e-4)
    batch.admit([RunningRow(other, InterventionGraph())])
    logits = batch.step([7, 8])
    assert torch.allclose(logits[0], model.engine.next_logits([[*row, 7]], graph)[0], atol=1e-4)
    assert torch.allclose(logits[1], model.engine.next_logits([[*other, 8]], InterventionGraph())[0], atol=1e-4)


def test_projections_are_those_of_captures(tiny_model) -> None:
    model = tiny_model("qwen2")
    graph, seen = graphs(model)[1], direction(model, 9)
    (prompt, other), n = prompts(300, 2), GREEDY.max_new_tokens
    read = (Capture("prompt_last", "none", (2,)), Capture("answer", "none", (2,)))
    captured = model.engine.generate([prompt], graph + InterventionGraph(read), GREEDY, [0], end_ids=frozenset())[0].captured
    expected = torch.cat([captured[read[0]], captured[read[1]][0]]) @ seen
    row = RunningRow(prompt, graph, {2: seen.unsqueeze(0)})
    answered(model.engine.running_batch(), [row, RunningRow(other, InterventionGraph())], [1, 0], [n, n])
    assert torch.allclose(torch.cat(row.readings[2]), expected, atol=1e-4)


def test_a_prompt_that_fails_leaves_those_under_way_as_they_were(tiny_model) -> None:
    model = tiny_model("llama")
    first, second = prompts(300, 2)
    batch = model.engine.running_batch()
    batch.admit([RunningRow(first, InterventionGraph())])
    with pytest.raises(IndexError):
        batch.admit([RunningRow([*second, 10**6], InterventionGraph())])
    assert len(batch.rows) == 1
    expected = model.engine.next_logits([[*first, 7]], InterventionGraph())[0]
    assert torch.allclose(batch.step([7])[0], expected, atol=1e-4)


def test_other_memories_than_keys_and_values_are_refused(tiny_hf) -> None:
    hf_model, tokenizer = tiny_hf("qwen2")
    model = SteerableModel(hf_model, tokenizer, name="hybrid")
    hf_model.config.layer_types = ["linear_attention"] * model.n_layers
    with pytest.raises(UnsupportedError, match="linear_attention"):
        model.engine.running_batch()
