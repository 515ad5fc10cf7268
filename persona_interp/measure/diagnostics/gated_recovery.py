"""Recovery at single doses, where an answer counts only while it is coherent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.dose import DosePoint
from persona_interp.measure.evaluation import COHERENT
from persona_interp.measure.recovery import ENOUGH, at_coefficients_of
from persona_interp.measure.statistics import Estimate

Curve = Sequence[DosePoint]


def gated(point: DosePoint, baseline: DosePoint) -> tuple[float | None, ...]:
    """Trait scores; those of the unsteered answers where coherence is below 70 or the judge had no score.

    A push too long for the model breaks its answers, and what they then score is no effect of the trait.
    """
    triples = zip(point.trait_scores, point.coherence_scores, baseline.trait_scores, strict=True)
    return tuple(
        unsteered if score is None or (coherence is not None and coherence < COHERENT) else score
        for score, coherence, unsteered in triples
    )


def movement(curve: Curve, baseline: DosePoint) -> float:
    """The furthest any dose moves the gated score, in points."""
    base = baseline.trait
    if base is None:
        return 0.0
    moved = [abs(_mean(gated(point, baseline), base) - base) for point in curve]
    return max(moved, default=0.0)


def share(curve: Curve, of: Curve, baseline: DosePoint, bootstrap: QuestionBootstrap, *, least: float = ENOUGH) -> Estimate:
    """What one curve moves the score by over what another does, both at the same coefficients, summed over them.

    Movement in the direction of the coefficient's sign counts as positive. No value where `of` moves it by less than `least`.

    Args:
        curve: points of the vector in question, without coefficient 0.
        of: of the one it is compared with, such as the target's own.
        baseline: the unsteered answers.
        bootstrap: over the questions of all of them; the same ones are drawn for both sides.
        least: points.

    Raises:
        InvalidInputError: the two are not measured at the same coefficients.
    """
    if movement(of, baseline) < least:
        return Estimate(None, None, None, 0)
    curve = at_coefficients_of(of, curve)
    signs = np.asarray([math.copysign(1.0, point.coefficient) for point in of])
    n = len(signs)

    def ratio(_places: Any, means: Any) -> Any:
        base = means[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((means[:, :n] - base) @ signs) / ((means[:, n : 2 * n] - base) @ signs)

    scores = [gated(point, baseline) for point in (*curve, *of)] + [baseline.trait_scores]
    return bootstrap.over_curve(list(map(float, range(len(scores)))), scores, ratio)


def _mean(scores: Sequence[float | None], otherwise: float) -> float:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else otherwise
