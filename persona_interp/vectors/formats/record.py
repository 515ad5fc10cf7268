"""What a file says beside the directions, common to the formats that say it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.recorded import DERIVED
from persona_interp.vectors.validation import non_finite

FORMAT_VERSION = 1
_REMEDY = "It was hand-edited or damaged: restore it or extract the vector again"


def describe(vector: PersonaVector) -> dict[str, Any]:
    """Everything about `vector` but its directions and responses, ready for JSON."""
    statistics = {name: vector.listed(name) for name in (*DERIVED, *vector.statistics)}
    return {
        "format_version": FORMAT_VERSION,
        "model": vector.model.to_json(),
        "layers": list(vector.layers),
        "d_model": vector.d_model,
        "positions": vector.positions,
        "estimator": vector.estimator,
        "counts": dict(vector.counts),
        "statistics": {name: list(values) for name, values in statistics.items()},
        "massive": [entry.to_json() for entry in vector.massive],
        "provenance": dict(vector.provenance),
    }


def rebuild(
    value: Mapping[str, Any],
    directions: Float[Tensor, "layer d_model"],
    layers: Sequence[int],
    *,
    trait: object,
    responses: Mapping[str, Any],
    source: str,
) -> PersonaVector:
    """The vector of a file of ours, from what `describe` wrote.

    Raises:
        FileFormatError: a field is missing or does not fit the others, or a value is NaN or infinite; names `source`.
    """
    check_version(value, source)
    check_finite(directions, layers, source)
    try:
        statistics = {
            str(name): tuple(None if number is None else _number(number, name) for number in values)
            for name, values in value["statistics"].items()
            if name not in DERIVED
        }
        return PersonaVector(
            directions=directions,
            layers=tuple(layers),
            trait=_text(trait, "trait"),
            model=ModelIdentity.from_json(value["model"]),
            positions=_text(value["positions"], "positions"),
            estimator=_text(value["estimator"], "estimator"),
            counts=dict(value["counts"]),
            statistics=statistics,
            massive=tuple(MassiveDimension.from_json(entry) for entry in value["massive"]),
            provenance=dict(value["provenance"]),
            responses=dict(responses),
        )
    except KeyError as error:
        raise FileFormatError(
            f"{source} has no field {error}: it was hand-edited or cut short; restore it or extract again"
        ) from error
    except PersonaInterpError as error:
        raise FileFormatError(f"{source} contradicts itself: {error}. {_REMEDY}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{source} has a field of the wrong type ({error}): restore it or extract again") from error


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"field {field!r} is {value!r}, expected text")
    return value


def _number(value: object, statistic: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"statistic {statistic!r} holds {value!r}, expected finite numbers or null")
    return float(value)


def check_version(value: Mapping[str, Any], source: str) -> None:
    """Refuse a file of a format version this package does not know."""
    version = value.get("format_version")
    if version != FORMAT_VERSION:
        raise FileFormatError(
            f"{source} has format version {version!r}, this version of persona-interp reads {FORMAT_VERSION}: "
            "update persona-interp"
        )


def check_finite(directions: Float[Tensor, "layer d_model"], layers: Sequence[int], source: str) -> None:
    """Refuse NaN and infinite values, naming layers and counts."""
    if bad := non_finite(directions, layers):
        raise FileFormatError(
            f"{source} holds NaN or infinite values ({bad}): restore the file, or extract again "
            "(in bfloat16 or float32 if it was float16)"
        )
