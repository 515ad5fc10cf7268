from __future__ import annotations

from typing import Any

import naive_writes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Ablate, AblateThenAdd, Add, AddPreservingNorm, Cap, Clamp
from persona_interp.interventions.positions import Spans, decode_masks, prefill_masks, prompts_only
from persona_interp.interventions.schedules import ExponentialDecay, LinearRamp, StepTable

N_ROWS, WIDTH, D_MODEL = 4, 6, 3
SPANS = Spans(
    real=torch.arange(WIDTH).unsqueeze(0) >= torch.tensor([[0], [2], [3], [1]]),  # left pads
    prompt_end=torch.tensor([3, 5, 6, 2]),
)


def one_by_one(resid: torch.Tensor, writes: tuple[Write, ...], layer: int) -> torch.Tensor:
    """What the description says, row by row and position by position."""
    result = resid.clone()
    for row in range(N_ROWS):
        text = slice(int(SPANS.real[row].int().argmax()), None)
        n_prompt = int(SPANS.prompt_end[row]) - text.start
        result[row, text] = naive_writes.after(resid[row, text], writes, layer, n_prompt, row)
    return result


def vector(seed: int) -> torch.Tensor:
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))


OPERATIONS_DRAWN = {
    "add": Add,
    "add_preserving_norm": AddPreservingNorm,
    "ablate": Ablate,
    "ablate_then_add": AblateThenAdd,
    "clamp": lambda direction: Clamp(direction, 0.6),
    "cap": lambda direction: Cap(direction, 0.3),
    "cap lower": lambda direction: Cap(direction, -0.8),
}
SCHEDULES_DRAWN = (None, None, LinearRamp(0, 1, 3), LinearRamp(1, 0.5, 1), ExponentialDecay(1.5), StepTable.until(2))

# Plain values: the checks of the tests draw random numbers where they look at an object, which a strategy may not.
seeds = st.integers(0, 99)
drawn_writes = st.tuples(
    st.integers(0, 1),  # layer
    st.sampled_from(sorted(OPERATIONS_DRAWN)),
    seeds,  # of the direction
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from(["all", "prompt", "response"]),
    st.none() | st.sets(st.integers(0, N_ROWS - 1), min_size=1),
    # thresholds that no clamped, capped or ablated projection lies on, where rounding would decide
    st.none() | st.tuples(seeds, st.sampled_from([-0.437, 0.071, 0.519]), st.sampled_from(["above", "below"])),
    st.integers(0, len(SCHEDULES_DRAWN) - 1),
)


def writes_of(drawn: list[Any]) -> tuple[Write, ...]:
    return tuple(
        Write(
            layer,
            OPERATIONS_DRAWN[kind](vector(seed)),
            coefficient,
            positions,
            None if rows is None else tuple(sorted(rows)),
            None if condition is None else ProjectionCondition(vector(condition[0]), *condition[1:]),
            SCHEDULES_DRAWN[schedule],
        )
        for layer, kind, seed, coefficient, positions, rows, condition, schedule in drawn
    )


@settings(deadline=None, max_examples=80)
@given(st.lists(drawn_writes, max_size=6))
def test_stacking_changes_nothing_but_the_number_of_operations(drawn: list[Any]) -> None:
    nodes = writes_of(drawn)
    resid = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(1))
    stacked = stack_writes(InterventionGraph(nodes), N_ROWS)
    for layer in stacked.by_layer:
        got = stacked.apply(layer, resid, prefill_masks(SPANS))
        expected = one_by_one(resid, nodes, layer)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        reached = torch.zeros(N_ROWS, WIDTH, dtype=torch.bool)
        for write in nodes:
            rows = list(range(N_ROWS)) if write.rows is None else list(write.rows)
            reached[rows] |= SPANS.writing(write.positions)[rows] & (write.layer == layer)
        assert torch.equal(got[~reached], resid[~reached])
        assert not bool(reached[~SPANS.real].any())


@settings(deadline=None, max_examples=25)
@given(st.lists(drawn_writes, max_size=6))
def test_each_row_alone_is_written_as_it_is_in_the_batch(drawn: list[Any]) -> None:
    graph = InterventionGraph(writes_of(drawn))
    resid = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(2))
    together = stack_writes(graph, N_ROWS)
    for row in range(N_ROWS):
        alone, spans = stack_writes(graph.for_rows([row]), 1), Spans(SPANS.real[[row]], SPANS.prompt_end[[row]])
        for layer in alone.by_layer:
            got = alone.apply(layer, resid[[row]], prefill_masks(spans))
            assert torch.equal(got, together.apply(layer, resid, prefill_masks(SPANS))[[row]])


@settings(deadline=None, max_examples=25)
@given(st.lists(drawn_writes, max_size=4))
def test_a_token_being_generated_is_written_as_it_is_in_the_whole_text(drawn: list[Any]) -> None:
    nodes = writes_of(drawn)
    resid = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(3))
    spans = Spans(torch.ones(N_ROWS, WIDTH, dtype=torch.bool), torch.full((N_ROWS,), 2))
    stacked = stack_writes(InterventionGraph(nodes), N_ROWS)
    for layer in stacked.by_layer:
        whole = stacked.apply(layer, resid, prefill_masks(spans))
        for step in range(1, WIDTH - 1):
            column = slice(step + 1, step + 2)
            assert torch.equal(stacked.apply(layer, resid[:, column], decode_masks(step)), whole[:, column])


def test_rows_with_their_own_condition_number_and_schedule_cost_one_operation_a_layer() -> None:
    nodes = tuple(
        Write(
            0,
            Cap(vector(row), row),
            0.5,
            rows=(row,),
            condition=ProjectionCondition(vector(row), 0.1 * row, "above" if row % 2 else "below"),
            schedule=None if row == 1 else LinearRamp(0, 1, row + 1),
        )
        for row in range(N_ROWS)
    )
    assert [len(stacked) for stacked in stack_writes(InterventionGraph(nodes), N_ROWS).by_layer.values()] == [1]


def test_what_cannot_be_one_operation_stays_apart() -> None:
    add = Add(vector(0))
    nodes = (
        Write(0, add, rows=(0,)),
        Write(0, Ablate(vector(0)), rows=(1,)),
        Write(0, add, rows=(2,), condition=ProjectionCondition(vector(0), 0.0)),
        Write(0, Add(vector(0).double()), rows=(3,)),
        Write(0, add, rows=(1,)),  # must come after the ablation
    )
    assert len(stack_writes(InterventionGraph(nodes), N_ROWS).by_layer[0]) == 5


def test_several_writes_of_a_layer_compose_in_the_order_given() -> None:
    resid = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(4))
    add, ablate = Write(0, Add(vector(0)), 2.0), Write(0, Ablate(vector(0)))

    def after(*writes: Write) -> torch.Tensor:
        return stack_writes(InterventionGraph(writes), N_ROWS).apply(0, resid, decode_masks(1))

    torch.testing.assert_close(after(add, ablate), after(ablate))
    torch.testing.assert_close(after(ablate, add), after(Write(0, AblateThenAdd(vector(0)), 2.0)))
    torch.testing.assert_close(after(add, Write(0, Add(vector(1)), -1.0)), resid + 2 * vector(0) - vector(1))
    moved = Write(0, Add(vector(1)), condition=ProjectionCondition(vector(0), 100.0))
    assert torch.equal(after(moved), resid)
    # the condition is asked of what the write before it left
    clamped = Write(0, Clamp(vector(0), 101.0))
    torch.testing.assert_close(after(clamped, moved), after(clamped) + vector(1))


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
