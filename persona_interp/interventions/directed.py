"""What operations and conditions have in common: a direction of the residual stream, a few numbers, and an exact JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.interventions.json_fields import number, vector_from_json, vector_to_json
from persona_interp.interventions.kinds import Described
from persona_interp.shapes import Direction, Residual

D = TypeVar("D", bound="Directed")


class Directed(Described):
    """A frozen dataclass (``eq=False``) whose first field is a direction and whose others are numbers.

    Attributes:
        kind: its name in JSON.
        normalises: whether only the line of the direction counts, not its length, so that a zero direction means nothing.
        direction: ``[d_model]``.
    """

    normalises: ClassVar[bool] = False
    direction: Direction

    def scalars(self) -> dict[str, float]:
        """Its numbers by name, as the arithmetic takes them: each becomes a tensor with one value a row of the batch."""
        return {name: float(value) for name, value in self._beside_the_direction().items()}

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "direction": {"dtype", "values"}}`` and its numbers; exact."""
        return {"kind": self.kind, "direction": vector_to_json(self.direction), **self.scalars()}

    @classmethod
    def from_json(cls: type[D], data: Mapping[str, Any], *, source: str = "intervention") -> D:
        """The inverse of `to_json`; raises FileFormatError naming the field."""
        direction = vector_from_json(data.get("direction"), source=source)
        try:
            rest = {name: number(data, name, int, float) for name in cls._names_beside_the_direction()}
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} of {cls.kind!r} is missing") from error
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {cls.kind!r}: {error}") from error
        return cls(direction, **rest)  # pyright: ignore[reportCallIssue]  (dataclasses all, with these fields)

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Names of the numbers it is made of beside its direction."""
        return cls._names_beside_the_direction()

    @classmethod
    def _names_beside_the_direction(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls) if field.name != "direction")  # pyright: ignore[reportArgumentType]

    def _beside_the_direction(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names_beside_the_direction()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Directed) or type(self) is not type(other):
            return False
        same = self._beside_the_direction() == other._beside_the_direction()
        return same and same_vector(self.direction, other.direction)

    def __hash__(self) -> int:
        total = float(self.direction.double().sum())
        return hash((self.kind, self.direction.shape[-1], total, *self._beside_the_direction().values()))


def same_vector(left: Tensor, right: Tensor) -> bool:
    """Same dtype, same shape, same values, wherever they are stored."""
    return left.dtype == right.dtype and left.shape == right.shape and bool(torch.equal(left.cpu(), right.cpu()))


def norm(values: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any 1"]:
    """The Euclidean norm along the last axis, also where a square would be too large or too small for the dtype."""
    largest = values.abs().amax(dim=-1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1)
    return scale * (values / scale).square().sum(dim=-1, keepdim=True).sqrt()


def unit(direction: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
    """The direction at length 1; a zero one stays zero."""
    largest = direction.abs().amax(dim=-1, keepdim=True)
    scaled = direction / torch.where(largest > 0, largest, 1)
    return scaled / scaled.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1)  # below 1 only where it is 0


def projection_onto(
    resid: Residual, direction: Float[Tensor, "#batch 1 d_model"]
) -> tuple[Residual, Float[Tensor, "#batch 1 d_model"], Float[Tensor, "batch pos 1"]]:
    """(resid, direction at length 1, length of the one along the other), all in single precision or better."""
    dtype = torch.promote_types(torch.promote_types(resid.dtype, direction.dtype), torch.float32)
    wide, line = resid.to(dtype), unit(direction.to(dtype))
    return wide, line, (wide * line).sum(dim=-1, keepdim=True)
