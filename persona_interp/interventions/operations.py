"""What can be done to a residual stream at one place: frozen, pure, tensor in and tensor out.

An operation holds a direction ``v`` and perhaps a number. `transform` is the arithmetic, written once and used by every engine:
it takes whole batches, so each row may carry its own direction, coefficient and number. Below, ``u = v / |v|``, ``h`` is the
residual at one position, and ``h . u`` its projection, in the units of the residual stream.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.directed import Directed, norm, projection_onto
from persona_interp.interventions.kinds import Kinds
from persona_interp.shapes import Direction, Residual

RowDirections: TypeAlias = Float[Tensor, "#batch 1 d_model"]
Coefficients: TypeAlias = Float[Tensor, "#batch #pos 1"]
"""By position as well as by row: a schedule makes them differ along an answer."""
RowScalars: TypeAlias = Float[Tensor, "#batch 1 1"]


class Operation(Directed):
    """One kind of writing. A new kind is a frozen dataclass (``eq=False``) derived from this one, passed to `register_operation`.

    Attributes:
        kind: its name in JSON.
        direction: the vector it works along, ``[d_model]``.
        coefficient_range: the coefficients that make sense, ends included; None: all finite ones.
    """

    coefficient_range: ClassVar[tuple[float, float] | None] = None

    @staticmethod
    @abstractmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients, *args: Any, **scalars: Any) -> Residual:
        """The new residual stream; broadcasts over rows and positions, changes nothing in place, keeps the dtype of `resid`.

        A kind that holds numbers beside its direction (`Directed.scalars`) names them as keyword arguments, ``[#batch 1 1]``
        each; ``*args`` is there only so that a type checker allows that.
        """


OPERATIONS: Kinds[Operation] = Kinds("operation")
"""Every known operation by its `kind`."""


def register_operation(operation: type[Operation]) -> type[Operation]:
    """Add a kind of operation to `OPERATIONS`; usable as a class decorator.

    Raises:
        InvalidInputError: another class already has this `kind`.
    """
    return OPERATIONS.register(operation)


def direction_operations() -> tuple[str, ...]:
    """Kinds that need nothing but a direction, so that a vector alone says all."""
    return tuple(kind for kind, operation in OPERATIONS.items() if not operation.needs())


def operation_from_json(data: Mapping[str, Any], *, source: str = "operation") -> Operation:
    """Rebuild any registered operation.

    Raises:
        UnknownNameError: the kind is not registered.
        FileFormatError: a field is missing or malformed.
    """
    return OPERATIONS.from_json(data, source=source)


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """Add ``coefficient * v`` to the residual stream (activation addition, the paper's steering, section 3.2).

    Attributes:
        direction: ``[d_model]``, used as it is, never normalised.
    """

    direction: Direction
    kind: ClassVar[str] = "add"

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients) -> Residual:
        """``h + coefficient * v``; the product is taken in the direction's dtype, the sum in that of `resid`."""
        return resid + (coefficient * direction).to(resid.dtype)


@dataclass(frozen=True, eq=False)
class AddPreservingNorm(Operation):
    """Add ``coefficient * v``, then bring each position back to the norm it had: the stream is turned, not lengthened.

    Where the sum is zero it has no direction, and the position stays as it was.

    Attributes:
        direction: ``[d_model]``, used as it is, never normalised.
    """

    direction: Direction
    kind: ClassVar[str] = "add_preserving_norm"

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients) -> Residual:
        """``(h + coefficient * v) * |h| / |h + coefficient * v|``, in single precision or better."""
        dtype = torch.promote_types(torch.promote_types(resid.dtype, direction.dtype), torch.float32)
        wide = resid.to(dtype)
        added = wide + (coefficient * direction).to(dtype)
        length = norm(added)
        turned = added / torch.where(length > 0, length, 1) * norm(wide)
        moved = (length > 0) & (added != wide).any(dim=-1, keepdim=True)  # what is not moved is not rounded either
        return torch.where(moved, turned, wide).to(resid.dtype)


@dataclass(frozen=True, eq=False)
class Ablate(Operation):
    """Take the projection onto the direction away (directional ablation, Arditi et al., arXiv 2406.11717).

    Its coefficient says how much of it, from 0 to 1; the length of the direction does not count.

    Attributes:
        direction: ``[d_model]``, not zero.
    """

    direction: Direction
    kind: ClassVar[str] = "ablate"
    normalises: ClassVar[bool] = True
    coefficient_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients) -> Residual:
        """``h - coefficient * (h . u) u``, in single precision or better."""
        wide, line, length = projection_onto(resid, direction)
        return (wide - coefficient * length * line).to(resid.dtype)


@dataclass(frozen=True, eq=False)
class AblateThenAdd(Operation):
    """Take the projection onto the direction away, all of it, then add ``coefficient * v``: a dose whatever was there before.

    At coefficient 0 the projection is still taken away.

    Attributes:
        direction: ``[d_model]``, not zero; added as it is.
    """

    direction: Direction
    kind: ClassVar[str] = "ablate_then_add"
    normalises: ClassVar[bool] = True

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients) -> Residual:
        """``h - (h . u) u + coefficient * v``, in single precision or better."""
        wide, line, length = projection_onto(resid, direction)
        return (wide - length * line + coefficient * direction).to(resid.dtype)


@dataclass(frozen=True, eq=False)
class Clamp(Operation):
    """Bring the projection onto the direction to a given value.

    Its coefficient says how much of the way, from 0 to 1; the length of the direction does not count.

    Attributes:
        direction: ``[d_model]``, not zero.
        projection: the value of ``h . u`` afterwards, in the units of the residual stream.
    """

    direction: Direction
    projection: float
    kind: ClassVar[str] = "clamp"
    normalises: ClassVar[bool] = True
    coefficient_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients, *, projection: RowScalars) -> Residual:
        """``h + coefficient * (projection - h . u) u``, in single precision or better."""
        wide, line, length = projection_onto(resid, direction)
        return (wide + coefficient * (projection - length) * line).to(resid.dtype)


@dataclass(frozen=True, eq=False)
class Cap(Operation):
    """Bring the projection onto the direction down to a bound where it is above; elsewhere nothing changes.

    To bound it from below, cap along the negated direction. Its coefficient says how much of the excess is taken away, from 0
    to 1; the length of the direction does not count.

    Attributes:
        direction: ``[d_model]``, not zero.
        bound: the largest ``h . u`` afterwards, in the units of the residual stream.
    """

    direction: Direction
    bound: float
    kind: ClassVar[str] = "cap"
    normalises: ClassVar[bool] = True
    coefficient_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    @staticmethod
    def transform(resid: Residual, direction: RowDirections, coefficient: Coefficients, *, bound: RowScalars) -> Residual:
        """``h - coefficient * max(0, h . u - bound) u``, in single precision or better."""
        wide, line, length = projection_onto(resid, direction)
        return (wide - coefficient * (length - bound).clamp(min=0) * line).to(resid.dtype)


for _operation in (Add, AddPreservingNorm, Ablate, AblateThenAdd, Clamp, Cap):
    register_operation(_operation)
