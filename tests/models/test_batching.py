from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.batching import TOKENS_PER_BATCH, buckets, generation_rows, pad, run_in_batches
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]


def test_rows_of_similar_length_run_together_longest_first() -> None:
    assert buckets([3, 9, 4, 8, 1], 2) == [[1, 3], [2, 0], [4]]


def test_without_a_batch_size_long_rows_run_in_smaller_batches() -> None:
    groups = buckets([TOKENS_PER_BATCH // 2] * 3 + [10] * 100, None)
    assert [len(group) for group in groups[:2]] == [2, 2]
    assert max(len(group) for group in groups) == 64
    assert sorted(index for group in groups for index in group) == list(range(103))
    assert buckets([TOKENS_PER_BATCH * 9], None) == [[0]]


def test_padding_is_on_the_left_and_positions_count_from_the_first_token() -> None:
    batch = pad([[7, 8, 9], [5]], [2, 1], pad_id=0, device=torch.device("cpu"))
    assert batch.ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch.spans.prompt_end.tolist() == [2, 3]


def test_batch_is_halved_when_memory_runs_out_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def run(rows: list[int]) -> None:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(rows)

    run_in_batches([5] * 9, run, batch_size=8, what="generating")
    assert sorted(done) == list(range(9))
    said = capsys.readouterr().err
    assert "out of memory while generating 8 rows at a time; going on with 4" in said
    assert "going on with 2" in said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")])
def test_a_single_row_that_does_not_fit_says_what_to_do(error: Exception) -> None:
    def run(rows: list[int]) -> None:
        raise error

    with pytest.raises(PersonaInterpError, match="out of memory while reading a single row of 5 tokens: use a smaller model"):
        run_in_batches([5, 4], run, batch_size=2, what="reading")


def test_other_errors_are_not_taken_for_memory() -> None:
    def run(rows: list[int]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_in_batches([5, 4], run, batch_size=2, what="reading")


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="batch_size is -3"):
        buckets([1], -3)


def test_a_model_out_of_memory_still_answers_every_row_alike(
    tiny_hf: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The memory runs out inside the model, some steps into the generation of a batch that is too large."""
    hf_model, tokenizer = tiny_hf("llama")
    model = SteerableModel(hf_model, tokenizer, name="small")
    asked = [Conversation.ask("moon " * n) for n in (1, 5, 2, 4, 3)]
    nodes = [Write(1, Add(torch.ones(32) * row), 1.0, "response", (row,)) for row in range(5)]
    graph = InterventionGraph((*nodes, Capture("answer")))
    expected = model.generate(asked, graph=graph, sampling=Sampling(6), seed=1)
    calls: list[int] = []

    def scarce(module: Any, args: Any, output: torch.Tensor) -> None:
        calls.append(1)
        if output.shape[0] > 2 and len(calls) % 4 == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    handle = hf_model.model.layers[2].register_forward_hook(scarce)
    seen: list[int] = []
    answers = model.generate(asked, graph=graph, sampling=Sampling(6), seed=1, on_generation=lambda row, _: seen.append(row))
    handle.remove()
    assert "going on with 3" in capsys.readouterr().err
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert [answer.answer_ids for answer in answers] == [answer.answer_ids for answer in expected]
    for answer, other in zip(answers, expected, strict=True):
        torch.testing.assert_close(answer.captured[Capture("answer")], other.captured[Capture("answer")], rtol=1e-4, atol=1e-4)


def test_small_models_generate_many_rows_together_and_large_ones_no_more_than_before() -> None:
    def rows(layers: int, heads: int, head_dim: int, dtype: torch.dtype, n_tokens: int) -> int:
        config = SimpleNamespace(
            num_hidden_layers=layers, num_key_value_heads=heads, num_attention_heads=heads, head_dim=head_dim
        )
        return generation_rows(config, dtype, n_tokens)

    assert rows(8, 2, 32, torch.float32, 80) == 256
    assert rows(28, 4, 128, torch.bfloat16, 400) == 64, "Qwen2.5-7B: 64 rows are the floor, halved when memory runs out"
    assert 64 < rows(12, 12, 64, torch.float32, 60) < 256, "in between, half a gigabyte of keys and values"
    plain = SimpleNamespace(num_hidden_layers=8, num_attention_heads=4, hidden_size=128)
    assert generation_rows(plain, torch.float32, 80) == 256, "without a number of key-value heads every head has its own"
