from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.positions import Spans, decode_masks, prefill_masks
from persona_interp.interventions.schedules import SCHEDULES, ExponentialDecay, LinearRamp, Schedule, StepTable

numbers = st.floats(-10, 10)
drawn_schedules = st.one_of(
    st.tuples(st.just(LinearRamp), numbers, numbers, st.integers(1, 20)),
    st.tuples(st.just(ExponentialDecay), st.floats(0.1, 50)),
    st.tuples(st.just(StepTable), st.lists(numbers, min_size=1, max_size=6).map(tuple)),
)


def factors(schedule: Schedule, n: int) -> list[float]:
    return [schedule.factor(step) for step in range(n)]


def test_schedules_say_what_they_are_named_after() -> None:
    assert factors(LinearRamp(0, 1, 4), 7) == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert factors(LinearRamp(2, -2, 2), 4) == [2, 0, -2, -2]
    assert factors(ExponentialDecay(2), 5) == pytest.approx([1, 0.5**0.5, 0.5, 0.5**1.5, 0.25])
    assert factors(StepTable((1.0, 3.0, 0.5)), 5) == [1, 3, 0.5, 0.5, 0.5]
    assert factors(StepTable.until(2), 4) == [1, 1, 0, 0]


@given(drawn_schedules, st.integers(0, 1000))
def test_no_factor_leaves_the_bounds(drawn: tuple[Any, ...], step: int) -> None:
    schedule = drawn[0](*drawn[1:])
    low, high = schedule.bounds
    assert low - 1e-12 <= schedule.factor(step) <= high + 1e-12


@given(drawn_schedules)
def test_schedules_come_back_from_json_to_the_last_bit(drawn: tuple[Any, ...]) -> None:
    schedule = drawn[0](*drawn[1:])
    back = SCHEDULES.from_json(schedule.to_json(), source="a file")
    assert back == schedule
    assert factors(back, 30) == factors(schedule, 30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearRamp(0, 1, 0), "steps of a LinearRamp must be an integer from 1 on, got 0"),
        (lambda: LinearRamp(float("nan"), 1, 3), "start of a LinearRamp must be a finite number, got nan"),
        (lambda: ExponentialDecay(0), "half_life of an ExponentialDecay must be above 0 steps, got 0.0"),
        (lambda: ExponentialDecay(float("inf")), "half_life of an ExponentialDecay must be a finite number, got inf"),
        (lambda: StepTable(()), "at least one number"),
        (lambda: StepTable((1.0, float("inf"))), "a factor of a StepTable must be a finite number, got inf"),
        (lambda: StepTable.until(0), "an integer from 1 on, got 0"),
    ],
)
def test_schedules_refuse_nonsense(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_steps_are_counted_by_answer_tokens_whichever_side_is_padded() -> None:
    """Two prompt tokens and two of the answer; three and one: left pads, right pads."""
    left = Spans(torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]], dtype=torch.bool), torch.tensor([3, 4]))
    right = Spans(torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], dtype=torch.bool), torch.tensor([2, 3]))
    assert left.steps()[:, 1:].tolist() == right.steps()[:, :4].tolist() == [[0, 0, 1, 2], [0, 0, 0, 1]]
    assert torch.equal(torch.as_tensor(prefill_masks(left).steps), left.steps())
    assert decode_masks(3).steps == 3
