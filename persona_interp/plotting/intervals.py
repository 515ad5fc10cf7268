"""95 % intervals as error bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persona_interp.measure.statistics import Estimate


def interval_bars(estimates: Sequence[Estimate], **look: Any) -> dict[str, Any]:
    """Plotly's error bars from each value to the ends of its interval; none where there is no interval.

    Args:
        estimates: in the order of the points.
        look: more of plotly's, such as ``color`` and ``thickness``.
    """
    return {
        "type": "data",
        "symmetric": False,
        "array": [_reach(each.high, each.value) for each in estimates],
        "arrayminus": [_reach(each.low, each.value) for each in estimates],
        "thickness": 1.4,
        **look,
    }


def _reach(end: float | None, value: float | None) -> float | None:
    return None if end is None or value is None else abs(end - value)
