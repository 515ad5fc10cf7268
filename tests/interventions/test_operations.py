"""The arithmetic of each operation: what it promises, whatever the residual, the direction and the coefficient."""

from __future__ import annotations

import naive_writes
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from persona_interp.interventions.graph import Write
from persona_interp.interventions.operations import (
    OPERATIONS,
    Ablate,
    AblateThenAdd,
    Add,
    AddPreservingNorm,
    Cap,
    Clamp,
    Operation,
)

D_MODEL = 4
EPS = torch.finfo(torch.float32).eps
ROUNDINGS = 16
"""Rounding errors a result may have gathered: a handful of operations on D_MODEL numbers."""

quick = settings(deadline=None, max_examples=80)
values = st.lists(st.floats(-100, 100, width=32), min_size=D_MODEL, max_size=D_MODEL)
parts = st.floats(0, 1, width=32)
doses = st.floats(-50, 50, width=32)


@st.composite
def resids(draw: st.DrawFn) -> Tensor:
    return torch.tensor(draw(st.lists(values, min_size=2, max_size=2)), dtype=torch.float32).unsqueeze(0)


@st.composite
def directions(draw: st.DrawFn, *, lengths: bool = True) -> Tensor:
    """Not zero; of any length a float32 can have, where length must not matter."""
    scale = 10.0 ** draw(st.integers(-30, 30)) if lengths else 1.0
    direction = (torch.tensor(draw(values), dtype=torch.float64) * scale).float()
    assume(bool(direction.any()) if lengths else float(direction.norm()) > 1e-3)
    return direction


def apply(operation: Operation, resid: Tensor, coefficient: float = 1.0) -> Tensor:
    scalars = {name: torch.full((1, 1, 1), value) for name, value in operation.scalars().items()}
    return operation.transform(resid, operation.direction.view(1, 1, -1), torch.full((1, 1, 1), coefficient), **scalars)


def projection(resid: Tensor, direction: Tensor) -> Tensor:
    return resid.double() @ naive_writes.unit(direction)


def size(*tensors: Tensor) -> float:
    """How large the numbers are that were rounded on the way."""
    return ROUNDINGS * EPS * max(1.0, *(float(tensor.double().norm(dim=-1).max()) for tensor in tensors))


def close(left: Tensor, right: Tensor, within: float) -> bool:
    return bool(((left.double() - right.double()).abs() <= within).all())


@quick
@given(resids(), directions())
def test_ablate_leaves_nothing_along_the_direction_and_is_idempotent(resid: Tensor, direction: Tensor) -> None:
    once = apply(Ablate(direction), resid)
    assert close(projection(once, direction), torch.zeros(1, 2), size(resid))
    assert close(apply(Ablate(direction), once), once, size(resid))


@quick
@given(resids(), directions(), parts)
def test_ablate_takes_its_part_of_the_projection_and_nothing_else(resid: Tensor, direction: Tensor, part: float) -> None:
    result = apply(Ablate(direction), resid, part)
    assert close(projection(result, direction), (1 - part) * projection(resid, direction), size(resid))
    assert close(across(result, direction), across(resid, direction), size(resid))


def across(resid: Tensor, direction: Tensor) -> Tensor:
    """What is left of it at right angles to the direction."""
    line = naive_writes.unit(direction)
    return resid.double() - (resid.double() @ line).unsqueeze(-1) * line


@quick
@given(resids(), directions(lengths=False), doses)
def test_adding_the_negated_direction_undoes_adding_it(resid: Tensor, direction: Tensor, dose: float) -> None:
    there = apply(Add(direction), resid, dose)
    assert close(apply(Add(-direction), there, dose), resid, size(resid, there))
    assert torch.equal(apply(Add(-direction), resid, dose), apply(Add(direction), resid, -dose))


@quick
@given(resids(), directions(), st.floats(-100, 100, width=32), parts)
def test_cap_never_raises_a_projection_and_leaves_what_is_below_alone(
    resid: Tensor, direction: Tensor, bound: float, part: float
) -> None:
    before = projection(resid, direction)
    result = apply(Cap(direction, bound), resid, part)
    within = size(resid, torch.tensor([[bound]]))
    assert bool((projection(result, direction) <= before + within).all())
    assert close(across(result, direction), across(resid, direction), within)
    below = before < bound - within
    assert torch.equal(result[below], resid[below])
    whole = projection(apply(Cap(direction, bound), resid), direction)
    assert bool((whole <= bound + within).all())
    assert close(whole, before.clamp(max=bound), within)


@quick
@given(resids(), directions(), st.floats(-100, 100, width=32), parts)
def test_clamp_reaches_its_projection_or_its_part_of_the_way(
    resid: Tensor, direction: Tensor, target: float, part: float
) -> None:
    within = size(resid, torch.tensor([[target]]))
    clamp, before = Clamp(direction, target), projection(resid, direction)
    assert close(projection(apply(clamp, resid), direction), torch.full((1, 2), target), within)
    assert close(projection(apply(clamp, resid, part), direction), before + part * (target - before), within)
    assert close(across(apply(clamp, resid, part), direction), across(resid, direction), within)


@quick
@given(resids(), directions(lengths=False), doses)
def test_ablate_then_add_gives_a_dose_that_what_was_there_does_not_change(resid: Tensor, direction: Tensor, dose: float) -> None:
    result = apply(AblateThenAdd(direction), resid, dose)
    within = size(resid, dose * direction.unsqueeze(0))
    assert close(projection(result, direction), torch.full((1, 2), dose) * direction.double().norm(), within)
    assert close(across(result, direction), across(resid, direction), within)


@quick
@given(resids(), directions(lengths=False), doses)
def test_norm_preserving_addition_keeps_norms_and_points_where_addition_does(
    resid: Tensor, direction: Tensor, dose: float
) -> None:
    result = apply(AddPreservingNorm(direction), resid, dose)
    assert close(result.double().norm(dim=-1), resid.double().norm(dim=-1), size(resid))
    added = resid.double() + torch.tensor(dose, dtype=torch.float32).double() * direction.double()
    lengths = added.norm(dim=-1, keepdim=True)
    clear = (lengths > 1e-3 * (1 + resid.norm(dim=-1, keepdim=True) + abs(dose) * direction.norm())).squeeze(-1)
    expected = added / lengths * resid.double().norm(dim=-1, keepdim=True)
    assert close(result[clear], expected[clear], 1e3 * size(resid))  # a short sum of long vectors is rounded more


def test_norm_preserving_addition_leaves_a_position_alone_where_the_sum_is_zero() -> None:
    direction = torch.tensor([1.0, 2.0, -3.0, 0.0])
    resid = torch.stack([-2 * direction, torch.zeros(4)]).unsqueeze(0)
    result = apply(AddPreservingNorm(direction), resid, 2.0)
    assert torch.equal(result, resid)


ALL = [
    Add(torch.tensor([1.0, -2.0, 0.5, 3.0])),
    AddPreservingNorm(torch.tensor([1.0, -2.0, 0.5, 3.0])),
    Ablate(torch.tensor([1.0, -2.0, 0.5, 3.0])),
    AblateThenAdd(torch.tensor([1.0, -2.0, 0.5, 3.0])),
    Clamp(torch.tensor([1.0, -2.0, 0.5, 3.0]), 0.7),
    Cap(torch.tensor([1.0, -2.0, 0.5, 3.0]), -0.3),
]
each = pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.kind)


def test_every_kind_is_tested_here() -> None:
    assert {operation.kind for operation in ALL} == set(OPERATIONS)


@each
@quick
@given(resids(), parts)
def test_each_operation_is_what_its_formula_says(operation: Operation, resid: Tensor, part: float) -> None:
    if operation.kind == "add_preserving_norm":  # rescaling a short sum of long vectors enlarges what was rounded
        sums = resid + part * operation.direction
        assume(bool((sums.norm(dim=-1) > 0.1 * resid.norm(dim=-1)).all()))
    result = apply(operation, resid, part)
    expected = torch.stack([naive_writes.written(h, Write(0, operation, part), 0) for h in resid[0]])
    assert close(result[0], expected, 100 * size(resid, operation.direction.unsqueeze(0)))


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_operation_is_pure_and_keeps_the_dtype(operation: Operation, dtype: torch.dtype) -> None:
    resid = torch.randn(2, 3, D_MODEL, generator=torch.Generator().manual_seed(0)).to(dtype)
    before, direction = resid.clone(), operation.direction.clone()
    result = apply(operation, resid, 0.5)
    assert result.dtype == dtype
    assert torch.equal(resid, before)
    assert torch.equal(operation.direction, direction)
    exact = apply(operation, resid.double(), 0.5)
    torch.testing.assert_close(result.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@each
def test_coefficient_zero_changes_nothing_to_the_last_bit(operation: Operation) -> None:
    resid = torch.randn(2, 3, D_MODEL, generator=torch.Generator().manual_seed(0))
    if operation.kind == "ablate_then_add":
        assert torch.equal(apply(operation, resid, 0.0), apply(Ablate(operation.direction), resid))
    else:
        assert torch.equal(apply(operation, resid, 0.0), resid)


@each
@quick
@given(st.lists(directions(lengths=False), min_size=3, max_size=3), st.lists(parts, min_size=3, max_size=3), st.integers(0, 99))
def test_rows_with_their_own_direction_coefficient_and_numbers_equal_one_by_one(
    operation: Operation, drawn: list[Tensor], coefficients: list[float], seed: int
) -> None:
    resid = torch.randn(3, 2, D_MODEL, generator=torch.Generator().manual_seed(seed))
    numbers = {name: [value + row for row in range(3)] for name, value in operation.scalars().items()}
    together = operation.transform(
        resid,
        torch.stack(drawn).unsqueeze(1),
        torch.tensor(coefficients).view(3, 1, 1),
        **{name: torch.tensor(rows).view(3, 1, 1) for name, rows in numbers.items()},
    )
    for row in range(3):
        alone = type(operation)(drawn[row], **{name: rows[row] for name, rows in numbers.items()})
        assert torch.equal(together[row : row + 1], apply(alone, resid[row : row + 1], coefficients[row]))


@pytest.mark.parametrize("operation", [Ablate, lambda v: Clamp(v, 2.0), lambda v: Cap(v, -1.0)], ids=["ablate", "clamp", "cap"])
@pytest.mark.parametrize("scale", [1e-38, 1e-3, 3.0, 1e37])
def test_the_length_of_the_direction_does_not_count(operation: type[Ablate], scale: float) -> None:
    resid = torch.randn(1, 5, D_MODEL, generator=torch.Generator().manual_seed(0))
    direction = torch.tensor([1.0, -2.0, 0.5, 3.0])
    torch.testing.assert_close(apply(operation(direction * scale), resid), apply(operation(direction), resid))


def test_operations_are_values() -> None:
    direction = torch.tensor([1.0, 2.0])
    assert Clamp(direction, 1) == Clamp(direction.clone(), 1.0)
    assert hash(Clamp(direction, 1)) == hash(Clamp(direction.clone(), 1.0))
    assert Clamp(direction, 1.0) != Clamp(direction, 2.0)
    assert Clamp(direction, 1.0) != Cap(direction, 1.0)
    assert Add(direction) != Ablate(direction)
    assert Ablate(direction) != Ablate(direction.double())
