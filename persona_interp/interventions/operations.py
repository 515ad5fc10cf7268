"""What can be done to a residual stream at one place: frozen, pure, tensor in and tensor out.

An operation holds a direction. `transform` is the arithmetic, written once and used by every engine: it takes whole batches,
so each row may carry its own direction and coefficient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError, unknown_name
from persona_interp.shapes import Direction, Residual

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class Operation(ABC):
    """One kind of writing. A new kind is a frozen dataclass derived from this one, passed to `register_operation`.

    Attributes:
        kind: its name in JSON.
        direction: the vector it works along, ``[d_model]``.
    """

    kind: ClassVar[str]
    direction: Direction

    @staticmethod
    @abstractmethod
    def transform(
        resid: Residual, direction: Float[Tensor, "#batch 1 d_model"], coefficient: Float[Tensor, "#batch 1 1"]
    ) -> Residual:
        """The new residual stream; broadcasts over rows and positions, changes nothing in place, keeps the dtype of `resid`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The operation as JSON values, `kind` among them; exact."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "operation") -> Operation:
        """The operation back from `to_json`."""


OPERATIONS: dict[str, type[Operation]] = {}
"""Every known operation by its `kind`."""


def register_operation(operation: type[Operation]) -> type[Operation]:
    """Add a kind of operation to `OPERATIONS`; usable as a class decorator.

    Raises:
        InvalidInputError: another class already has this `kind`.
    """
    known = OPERATIONS.get(operation.kind)
    if known is not None and known is not operation:
        raise InvalidInputError(
            f"operation kind {operation.kind!r} is already registered by {known.__qualname__}: choose another `kind`"
        )
    OPERATIONS[operation.kind] = operation
    return operation


def operation_from_json(data: Mapping[str, Any], *, source: str = "operation") -> Operation:
    """Rebuild any registered operation.

    Raises:
        UnknownNameError: the kind is not registered.
        FileFormatError: a field is missing or malformed.
    """
    kind = data.get("kind")
    if kind not in OPERATIONS:
        raise unknown_name("operation kind", str(kind), OPERATIONS, f"(in {source})")
    return OPERATIONS[kind].from_json(data, source=source)


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """Add ``coefficient * direction`` to the residual stream (activation addition, the paper's steering, section 3.2).

    Attributes:
        direction: ``[d_model]``, used as it is, never normalised.
    """

    direction: Direction
    kind: ClassVar[str] = "add"

    @staticmethod
    def transform(
        resid: Residual, direction: Float[Tensor, "#batch 1 d_model"], coefficient: Float[Tensor, "#batch 1 1"]
    ) -> Residual:
        """``resid + coefficient * direction``; the product is taken in the direction's dtype, the sum in that of `resid`."""
        return resid + (coefficient * direction).to(resid.dtype)

    def to_json(self) -> dict[str, Any]:
        """``{"kind": "add", "direction": {"dtype", "values"}}``."""
        return {"kind": self.kind, "direction": vector_to_json(self.direction)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "operation") -> Add:
        """The inverse of `to_json`; raises FileFormatError naming the field."""
        return cls(vector_from_json(data.get("direction"), source=source))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Add) and same_vector(self.direction, other.direction)

    def __hash__(self) -> int:
        return hash((self.kind, self.direction.shape[-1], float(self.direction.double().sum())))


register_operation(Add)


def vector_to_json(vector: Direction) -> dict[str, Any]:
    """A vector as dtype and decimal values; doubles hold every smaller float exactly, so the round trip is exact."""
    values = vector.detach().to(device="cpu", dtype=torch.float64)
    return {"dtype": str(vector.dtype).removeprefix("torch."), "values": [float(value) for value in values]}


def vector_from_json(data: object, *, source: str) -> Direction:
    """The inverse of `vector_to_json`.

    Raises:
        FileFormatError: not such an object, an unknown dtype, or a value that is no number.
    """
    if not isinstance(data, Mapping):
        raise FileFormatError(f"{source}: field 'direction' must be an object with 'dtype' and 'values'")
    fields = cast(Mapping[str, Any], data)
    dtype = _DTYPES.get(str(fields.get("dtype")))
    if dtype is None:
        raise FileFormatError(f"{source}: direction dtype {fields.get('dtype')!r} is not one of {', '.join(_DTYPES)}")
    values = fields.get("values")
    numbers = cast(list[Any], values) if isinstance(values, list) else None
    if not numbers or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise FileFormatError(f"{source}: direction 'values' must be a non-empty list of numbers")
    return torch.tensor(numbers, dtype=torch.float64).to(dtype)


def same_vector(left: Tensor, right: Tensor) -> bool:
    """Same dtype, same shape, same values, wherever they are stored."""
    return left.dtype == right.dtype and left.shape == right.shape and bool(torch.equal(left.cpu(), right.cpu()))
