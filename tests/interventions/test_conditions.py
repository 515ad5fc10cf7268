from __future__ import annotations

import naive_writes
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.conditions import CONDITIONS, ProjectionCondition

D_MODEL = 4


def holds(condition: ProjectionCondition, resid: torch.Tensor) -> torch.Tensor:
    scalars = {name: torch.full((1, 1, 1), value) for name, value in condition.scalars().items()}
    return condition.holds(resid, condition.direction.view(1, 1, -1), **scalars)


@settings(deadline=None)
@given(st.integers(0, 999), st.floats(-3, 3, width=32), st.floats(-20, 20))
def test_above_and_below_part_the_positions_at_the_threshold(seed: int, threshold: float, exponent: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    resid, direction = torch.randn(2, 5, D_MODEL, generator=generator), torch.randn(D_MODEL, generator=generator)
    projection = resid.double() @ naive_writes.unit(direction)
    assume(bool(((projection - threshold).abs() > 1e-5).all()))
    above = holds(ProjectionCondition(direction * 10**exponent, threshold), resid)  # the length does not count
    below = holds(ProjectionCondition(direction, threshold, "below"), resid)
    assert torch.equal(above, projection > threshold)
    assert torch.equal(below, ~above)


def test_at_the_threshold_and_where_nothing_can_be_compared_neither_side_holds() -> None:
    resid = torch.tensor([[[2.0, 0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0, 0.0]]])
    direction = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert not holds(ProjectionCondition(direction, 2.0), resid).any()
    assert not holds(ProjectionCondition(direction, 2.0, "below"), resid).any()


def test_conditions_come_back_from_json_to_the_last_bit() -> None:
    condition = ProjectionCondition(torch.tensor([0.1, -0.2]), 0.1 + 0.2, "below")
    back = CONDITIONS.from_json(condition.to_json(), source="a file")
    assert back == condition
    assert hash(back) == hash(condition)
    assert back != ProjectionCondition(condition.direction, condition.threshold)
    assert set(condition.to_json()) == {"kind", "direction", "threshold", "side"}


def test_another_side_is_refused() -> None:
    condition = ProjectionCondition(torch.ones(2), 1.0)
    object.__setattr__(condition, "side", "beside")  # past the type checker, which only the tests have
    with pytest.raises(InvalidInputError, match="side of a ProjectionCondition is 'beside', expected 'above' or 'below'"):
        condition.__post_init__()
