from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.interventions.positions import Spans, decode_masks, prefill_masks, prompts_only

N_ROWS, WIDTH, D_MODEL = 4, 6, 3
SPANS = Spans(
    real=torch.arange(WIDTH).unsqueeze(0) >= torch.tensor([[0], [2], [3], [1]]),  # left pads
    prompt_end=torch.tensor([3, 5, 6, 2]),
)


def one_by_one(resid: torch.Tensor, writes: tuple[Write, ...], layer: int) -> torch.Tensor:
    """What the description says, written naively."""
    resid = resid.clone()
    for write in writes:
        if write.layer != layer:
            continue
        for row in range(N_ROWS) if write.rows is None else write.rows:
            for pos in range(WIDTH):
                end = int(SPANS.prompt_end[row])
                inside = {"all": True, "prompt": pos < end, "response": pos >= end - 1}[write.positions]
                if inside and SPANS.real[row, pos]:
                    resid[row, pos] += write.coefficient * write.operation.direction
    return resid


drawn_writes = st.tuples(
    st.integers(0, 1),  # layer
    st.integers(0, 99),  # seed of the direction
    st.sampled_from([-2.0, 0.5, 1.0]),
    st.sampled_from(["all", "prompt", "response"]),
    st.none() | st.sets(st.integers(0, N_ROWS - 1), min_size=1),
)


def write(layer: int, seed: int, coefficient: float, positions: WritePositions, rows: set[int] | None) -> Write:
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Write(layer, Add(direction), coefficient, positions, None if rows is None else tuple(sorted(rows)))


@settings(deadline=None, max_examples=60)
@given(st.lists(drawn_writes, max_size=6))
def test_stacking_changes_nothing_but_the_number_of_operations(drawn: list[Any]) -> None:
    nodes = tuple(write(*values) for values in drawn)
    resid = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(1))
    stacked = stack_writes(InterventionGraph(nodes), N_ROWS)
    for layer in stacked.by_layer:
        got = stacked.apply(layer, resid, prefill_masks(SPANS))
        expected = one_by_one(resid, nodes, layer)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        untouched = expected == resid
        assert torch.equal(got[untouched], resid[untouched])


def test_rows_steered_differently_cost_one_operation_a_layer() -> None:
    nodes = tuple(Write(0, Add(torch.full((D_MODEL,), float(row))), row, rows=(row,)) for row in range(N_ROWS))
    assert [len(stacked) for stacked in stack_writes(InterventionGraph(nodes), N_ROWS).by_layer.values()] == [1]


def test_writes_that_share_rows_stay_in_order() -> None:
    add = Add(torch.ones(D_MODEL))
    nodes = (Write(0, add, rows=(0, 1)), Write(0, add, rows=(1, 2)), Write(0, add, rows=(3,)), Write(0, add))
    groups = stack_writes(InterventionGraph(nodes), N_ROWS).by_layer[0]
    assert [None if group.rows is None else group.rows.nonzero().flatten().tolist() for group in groups] == [
        [0, 1],
        [1, 2, 3],
        None,
    ]


def test_half_precision_directions_do_not_overflow() -> None:
    direction = torch.full((D_MODEL,), 60000.0, dtype=torch.float16)
    stacked = stack_writes(InterventionGraph((Write(0, Add(direction), 3.0),)), N_ROWS)
    resid = torch.zeros(N_ROWS, WIDTH, D_MODEL)
    assert float(stacked.apply(0, resid, decode_masks(1)).max()) == 180000.0


@pytest.mark.parametrize(
    ("positions", "expected"),
    [("all", [1, 1, 1, 1, 1, 1]), ("prompt", [1, 1, 1, 0, 0, 0]), ("response", [0, 0, 1, 1, 1, 1])],
)
def test_response_begins_at_the_last_prompt_token(positions: WritePositions, expected: list[int]) -> None:
    assert SPANS.writing(positions)[0].int().tolist() == expected


def test_reading_spans_leave_pads_out_and_share_no_token() -> None:
    prompt, last, answer = (SPANS.reading(name) for name in ("prompt", "prompt_last", "answer"))
    assert not bool((prompt & answer).any())
    assert torch.equal(prompt | answer, SPANS.real)
    assert last.sum(dim=1).tolist() == [1] * N_ROWS
    assert bool((last & ~prompt).any()) is False


def test_prompts_end_with_their_last_token_whichever_side_is_padded() -> None:
    left = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    assert prompts_only(left).prompt_end.tolist() == [4, 4]
    assert prompts_only(left.flip(1)).prompt_end.tolist() == [2, 4]


def test_a_layer_with_nothing_to_do_in_a_call_is_not_touched() -> None:
    graph = InterventionGraph((Write(0, Add(torch.ones(D_MODEL)), positions="prompt"), Write(1, Add(torch.ones(D_MODEL)))))
    stacked = stack_writes(graph, N_ROWS)
    assert stacked.layers(prefill_masks(SPANS)) == (0, 1)
    assert stacked.layers(decode_masks(1)) == (1,)
