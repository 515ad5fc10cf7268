"""Whether what a graph asks for can run on a model of a given shape, and the words for it when it cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.directed import Directed
from persona_interp.interventions.operations import Operation
from persona_interp.interventions.schedules import Schedule

LARGEST = 3.4e38
"""Of single precision, in which coefficients multiply."""


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise InvalidInputError unless `value` is one of `choices`."""
    if value not in tuple(choices):
        raise InvalidInputError(f"{what} is {value!r}, expected one of {', '.join(choices)}")


def check_layer(layer: int, n_layers: int, model_name: str) -> None:
    """Raise IncompatibleError unless the model has this block."""
    if not 0 <= layer < n_layers:
        raise IncompatibleError(
            f"layer {layer} is out of range: {model_name} has {n_layers} layers, 0 to {n_layers - 1} "
            "(0-based, the output of that block)"
        )


def check_coefficient(layer: int, operation: Operation, coefficient: float, schedule: Schedule | None, model_name: str) -> None:
    """Raise InvalidInputError unless the coefficient, under its schedule, is one that the operation can work with."""
    reached = [coefficient] if schedule is None else [coefficient * factor for factor in schedule.bounds]
    if not all(math.isfinite(value) and abs(value) <= LARGEST for value in (coefficient, *reached)):
        raise InvalidInputError(
            f"the coefficient {coefficient} at layer {layer} cannot steer {model_name}: give a finite number "
            "that fits into single precision" + ("" if schedule is None else ", also when its schedule multiplies it")
        )
    if operation.coefficient_range is None:
        return
    low, high = operation.coefficient_range
    if not all(low <= value <= high for value in reached):
        under = "" if schedule is None else f" (from {min(reached):g} to {max(reached):g} under its schedule)"
        raise InvalidInputError(
            f"the coefficient {coefficient}{under} of {operation.kind!r} at layer {layer} is out of range: it says how much of "
            f"the change is made, {low:g} for none to {high:g} for all of it; the length of the direction does not count"
        )


def check_directed(layer: int, what: str, directed: Directed, d_model: int, model_name: str) -> None:
    """Raise unless direction and numbers of an operation or a condition fit a model of this width.

    Args:
        layer: where it is used, for the message.
        what: what is directed, for the message: ``the direction``, ``the direction of the condition``.

    Raises:
        IncompatibleError: another width.
        InvalidInputError: NaN or infinite values, or a zero direction where only its line counts.
    """
    direction = directed.direction
    if direction.shape[-1] != d_model:
        raise IncompatibleError(
            f"{what} at layer {layer} has width {direction.shape[-1]}, but {model_name} has d_model {d_model}: "
            "it comes from another model; use a vector extracted from this one, or transfer it first"
        )
    if not bool(torch.isfinite(direction).all()):
        raise InvalidInputError(
            f"{what} at layer {layer} holds NaN or infinite values and cannot steer {model_name}: extract it again"
        )
    if directed.normalises and not bool(direction.any()):
        raise InvalidInputError(
            f"{what} at layer {layer} is zero, so there is nothing to project onto: {directed.kind!r} needs another one"
        )
    for name, value in directed.scalars().items():
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise InvalidInputError(
                f"the {name} {value} of {directed.kind!r} at layer {layer} cannot steer {model_name}: give a finite number "
                "that fits into single precision"
            )
