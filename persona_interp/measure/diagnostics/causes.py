"""The three causes, their subsets, and how a loss is divided among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations

CAUSES: tuple[str, ...] = ("magnitude", "basis", "layers")
"""Wrong length of the push; a direction in another basis; the wrong layer."""
HYPOTHESES = {"a": "magnitude", "b": "basis", "c": "layers"}

Fixed = frozenset[str]
"""The causes that are fixed."""


def subsets() -> tuple[Fixed, ...]:
    """All eight, from none fixed to all fixed."""
    return tuple(frozenset(chosen) for size in range(len(CAUSES) + 1) for chosen in combinations(CAUSES, size))


def named(causes: Iterable[str]) -> str:
    """``magnitude+basis``, in the order of `CAUSES`; ``none`` where there is none."""
    chosen = set(causes)
    return "+".join(cause for cause in CAUSES if cause in chosen) or "none"


def shapley(values: Mapping[Fixed, float]) -> dict[str, float]:
    """What each fix adds to the recovery, averaged over all orders they can be made in (Shapley 1953).

    The three sum to the recovery with all fixes minus that with none.

    Args:
        values: recovery of every subset.
    """
    n = len(CAUSES)
    found = dict.fromkeys(CAUSES, 0.0)
    for cause in CAUSES:
        for fixed in subsets():
            if cause not in fixed:
                weight = math.factorial(len(fixed)) * math.factorial(n - len(fixed) - 1) / math.factorial(n)
                found[cause] += weight * (values[fixed | {cause}] - values[fixed])
    return found
