"""Single fields of the JSON that interventions are written as: exact on the way out, checked on the way in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.shapes import Direction

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


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


def number(data: Mapping[str, Any], field: str, *kinds: type) -> Any:
    """The number in a field.

    Raises:
        KeyError: there is no such field.
        InvalidInputError: it holds no number of these kinds; true and false are none.
    """
    if type(data[field]) not in kinds:  # not isinstance: true is no number
        raise InvalidInputError(f"field {field!r} is {data[field]!r}, expected {'a number' if float in kinds else 'an integer'}")
    return data[field]


def indices(data: Mapping[str, Any], field: str) -> tuple[int, ...] | None:
    """The list of integers in a field, or None where it holds null.

    Raises:
        KeyError: there is no such field.
        InvalidInputError: it holds something else.
    """
    values = data[field]
    if values is None:
        return None
    if not isinstance(values, list) or any(type(value) is not int for value in cast(list[Any], values)):
        raise InvalidInputError(f"field {field!r} is {values!r}, expected a list of integers, or null")
    return tuple(cast(list[int], values))


def finite(value: object, what: str) -> float:
    """`value` as a float.

    Raises:
        InvalidInputError: it is not a number, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"{what} must be a finite number, got {value!r}")
    return float(value)
