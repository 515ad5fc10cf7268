"""What becomes of the statistics of directions that are multiplied, each by its own factor.

===================================  ==================  ==================  ===========
statistic                            times more than 0   times less than 0   times 0
===================================  ==================  ==================  ===========
of the model or of the texts         kept                kept                kept
(``resid_norm``, ``positive_norm``,
``negative_norm``)
``auroc`` a                          kept                1 - a               unknown
``cohens_d`` d                       kept                -d                  unknown
``split_half``                       kept                kept                unknown
``effectiveness``                    kept                see below           unknown
any other                            dropped             dropped             dropped
===================================  ==================  ==================  ===========

An effectiveness says how well a layer steers the trait with the dose and the sign that do it best, so it is the same for a vector
turned round, where it was measured so: by a sweep, which steers both ways, by a transfer, whose map does not see the sign, or by
the likelihood, gradient or lens of a vector whose AUROC told which way it points, as `measure.layer_proxies` asks it. Without
an AUROC these score the sign too, and what they would say of the other one is not known: the effectiveness is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

Values = tuple[float | None, ...]

OF_THE_MODEL = ("resid_norm",)
"""What says nothing about directions or texts, and so stays true of a sum as well."""
_OF_THE_TEXTS = ("positive_norm", "negative_norm")
_WHEN_TURNED: dict[str, Callable[[float], float]] = {
    "cohens_d": lambda d: -d,
    "auroc": lambda a: 1.0 - a,
    "split_half": float,
    "effectiveness": float,
}


def scaled_statistics(statistics: Mapping[str, Values], factors: Sequence[float], method: str) -> dict[str, Values]:
    """The statistics of directions after each was multiplied.

    Args:
        statistics: name -> one value a layer.
        factors: one a layer; 0 for a direction that has become zero.
        method: what the effectiveness was measured by; empty where that is not recorded.
    """
    found = {name: values for name, values in statistics.items() if name in (*OF_THE_MODEL, *_OF_THE_TEXTS)}
    for name, turned in _WHEN_TURNED.items():
        values = statistics.get(name)
        if values is None or (name == "effectiveness" and min(factors) < 0 and not _holds_both_ways(statistics, method)):
            continue
        moved = tuple(
            None if value is None or factor == 0 else value if factor > 0 else turned(value)
            for value, factor in zip(values, factors, strict=True)
        )
        if 0 not in factors or any(value is not None for value in moved):
            found[name] = moved
    return {name: found[name] for name in statistics if name in found}


def _holds_both_ways(statistics: Mapping[str, Values], method: str) -> bool:
    if method == "sweep" or method.startswith("transfer"):
        return True
    areas = [area for area in statistics.get("auroc", ()) if area is not None]
    return bool(areas) and fmean(areas) != 0.5
