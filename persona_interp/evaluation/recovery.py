"""Recovery: how much of the effect of a model's own vector another vector has at the same perturbation ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from persona_interp.errors import InvalidInputError
from persona_interp.evaluation.bootstrap import QuestionBootstrap, slope
from persona_interp.evaluation.dose import DosePoint
from persona_interp.evaluation.statistics import Estimate

ENOUGH = 20.0
"""Points the native vector must move the score by, for a share of that to mean anything."""
UNDEFINED = Estimate(None, None, None, 0)


def at_coefficients_of(native: Sequence[DosePoint], curve: Sequence[DosePoint]) -> list[DosePoint]:
    """The points of `curve` at the coefficients of `native`, in the order of those.

    Raises:
        InvalidInputError: a coefficient of one is missing in the other, or there twice: names them.
    """
    found = {point.coefficient: point for point in curve}
    wanted = [point.coefficient for point in native]
    if len(found) < len(curve) or len(set(wanted)) < len(wanted):
        raise InvalidInputError(f"a coefficient is there twice ({_listed(curve)} beside {_listed(native)}): give each once")
    if missing := found.keys() ^ set(wanted):
        raise InvalidInputError(
            f"a curve at coefficients {_listed(curve)} cannot be compared with one at {_listed(native)}: measure both at "
            f"{', '.join(f'{each:g}' for each in sorted(missing))}, or leave these out"
        )
    return [found[each] for each in wanted]


def native_movement(native: Sequence[DosePoint], baseline: DosePoint) -> float:
    """The furthest the native vector moved the mean trait score, in points; 0 where nothing has a score."""
    if baseline.trait is None:
        return 0.0
    return max((abs(point.trait - baseline.trait) for point in native if point.trait is not None), default=0.0)


def recovery(
    curves: Sequence[Sequence[DosePoint]],
    native: Sequence[DosePoint],
    baseline: DosePoint,
    bootstrap: QuestionBootstrap,
    *,
    unsteered: DosePoint | None = None,
) -> Estimate:
    """Slope of the score against the coefficient under the carried vector, over that under the native one.

    Coefficients mean the same perturbation ratio in both; the unsteered answers are the point at 0 of both. Several curves, as
    of several random directions, are averaged. The interval is over questions, the same ones drawn for both sides. No value
    where the native vector moves the score by less than 20 points.

    Args:
        curves: points of the carried vector or vectors, without coefficient 0, in any order.
        native: points of the native vector, at the same coefficients.
        baseline: the unsteered answers.
        bootstrap: over the questions of all of them.
        unsteered: the point at 0 of the carried side, where that was measured in another model than the native one.

    Raises:
        InvalidInputError: a curve is not measured at the coefficients of the native one.
    """
    curves = [at_coefficients_of(native, curve) for curve in curves]
    if native_movement(native, baseline) < ENOUGH or not curves:
        return UNDEFINED
    own = baseline if unsteered is None else unsteered
    sides = [[*curve, own] for curve in curves] + [[*native, baseline]]
    width = len(sides[-1])
    x = np.asarray([point.coefficient for point in sides[-1]])

    def ratio(_places: Any, means: Any) -> Any:
        slopes = [slope(x, means[:, start : start + width]) for start in range(0, means.shape[1], width)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.mean(slopes[:-1], axis=0) / slopes[-1]

    points = [point for side in sides for point in side]
    return bootstrap.over_curve([point.coefficient for point in points], [point.trait_scores for point in points], ratio)


def recovery_at(point: DosePoint, native: DosePoint, baseline: DosePoint, bootstrap: QuestionBootstrap) -> Estimate:
    """(carried - unsteered) / (native - unsteered) at one coefficient; no value where native moves less than 20 points."""
    if native_movement([native], baseline) < ENOUGH:
        return UNDEFINED

    def ratio(_places: Any, means: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (means[:, 0] - means[:, 2]) / (means[:, 1] - means[:, 2])

    three = (point, native, baseline)
    return bootstrap.over_curve([0.0, 1.0, 2.0], [each.trait_scores for each in three], ratio)


def prompted_share(
    positive: DosePoint, negative: DosePoint, native: Sequence[DosePoint], baseline: DosePoint, bootstrap: QuestionBootstrap
) -> Estimate:
    """What system prompts for and against the trait do without steering, over what the native vector does between its ends."""
    if native_movement(native, baseline) < ENOUGH:
        return UNDEFINED
    known = sorted([*native, baseline], key=lambda point: point.coefficient)

    def ratio(_places: Any, means: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (means[:, 0] - means[:, 1]) / (means[:, 3] - means[:, 2])

    four = (positive, negative, known[0], known[-1])
    return bootstrap.over_curve([0.0, 1.0, 2.0, 3.0], [each.trait_scores for each in four], ratio)


def _listed(points: Sequence[DosePoint]) -> str:
    return ", ".join(f"{point.coefficient:g}" for point in points) or "none"
