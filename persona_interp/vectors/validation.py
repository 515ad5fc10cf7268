"""Checks of values and the words for them, shared by the vector and its file formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError


def finite_number(value: float | Tensor, what: str) -> float:
    """`value` as a float.

    Raises:
        InvalidInputError: it is not a number, or NaN or infinite.
    """
    given: Any = value  # callers hand in what a user typed, so the annotation is a hope; a bool is an int to Python only
    if hasattr(given, "item") and getattr(given, "ndim", None) == 0:  # a number out of a tensor or an array
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InvalidInputError(f"{what} must be a finite number, got {given!r}")
    return float(given)


def non_finite(directions: Float[Tensor, "layer d_model"], layers: Sequence[int]) -> str:
    """Which layers hold how many NaN or infinite values, in words; empty where there are none."""
    counts = (~torch.isfinite(directions)).sum(1).tolist()
    return ", ".join(f"layer {layer}: {count}" for layer, count in zip(layers, counts, strict=True) if count)


def check_layers(layers: Sequence[int], n_directions: int) -> None:
    """Refuse layers that are not 0-based block indices in increasing order, one for each direction.

    Raises:
        InvalidInputError: says what is wrong with them.
    """
    if n_directions != len(layers) or n_directions == 0:
        raise InvalidInputError(f"{n_directions} directions were given for {len(layers)} layers: give one each, at least one")
    if any(a >= b for a, b in pairwise(layers)) or layers[0] < 0:
        raise InvalidInputError(f"layers are {list(layers)}: give 0-based block indices, each once, in increasing order")


def layer_spans(layers: Sequence[int]) -> str:
    """``(0, 1, 2, 5)`` as ``0-2, 5``."""
    spans: list[tuple[int, int]] = []
    for layer in layers:
        if spans and layer == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], layer)
        else:
            spans.append((layer, layer))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
