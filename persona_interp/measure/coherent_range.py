"""Up to which coefficients answers stay coherent: the one definition of the coherent range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from persona_interp.measure.point import DosePoint
from persona_interp.traits.coherence import USABLE, coherent

COHERENT = USABLE
"""Mean coherence, 0-100, from which on a coefficient counts as usable; see `traits.coherence`."""


@dataclass(frozen=True)
class CoherentRange:
    """The coefficients around 0 up to which every measured one has coherence of at least `threshold`.

    Attributes:
        low: smallest of them, 0 if no negative one is coherent or was measured.
        high: largest of them, likewise.
        threshold: 0-100.
    """

    low: float
    high: float
    threshold: float = COHERENT


def coherent_range(points: Sequence[DosePoint], threshold: float = COHERENT) -> CoherentRange | None:
    """The range of some points, one of them at coefficient 0.

    None where the judge gave no coherence, or the unsteered model itself is below the threshold.
    """
    scores = {point.coefficient: point.coherence for point in points}
    if not coherent(scores[0.0], threshold):
        return None

    def end(side: int) -> float:
        reached = 0.0
        for coefficient in sorted((c for c in scores if c * side > 0), key=abs):
            if not coherent(scores[coefficient], threshold):
                break
            reached = coefficient
        return reached

    return CoherentRange(end(-1), end(1), threshold)
