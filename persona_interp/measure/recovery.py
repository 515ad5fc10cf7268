"""Recovery: how much of the effect of a model's own vector another vector has at the same perturbation ratios.

Effects are compared in one of two ways. `recovery` compares slopes over a range of doses that all are moderate: what the brief
asks of a transfer. `gated_recovery` compares movements at single doses that may be too strong for a model, as a vector of the
wrong length is: what an answer scores that is not coherent is no effect of the trait, and counts as unsteered there. Neither has
a value where the model's own vector moves its trait by less than `ENOUGH`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev
from typing import Any

import numpy as np

from persona_interp.errors import InvalidInputError
from persona_interp.measure.bootstrap import QuestionBootstrap, slope
from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.point import DosePoint, mean_known
from persona_interp.measure.statistics import UNKNOWN, Estimate, student_reach

ENOUGH = 20.0
"""Points the native vector must move the score by, for a share of that to mean anything."""


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
    of several random directions, are averaged. The interval is over questions, the same ones drawn for both sides; that of
    several curves also over curves, as other directions would have been drawn: Student's, of what each recovers, joined with the
    one over questions in quadrature. No value where the native vector moves the score by less than 20 points.

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
        return UNKNOWN
    own = baseline if unsteered is None else unsteered
    sides = [[*curve, own] for curve in curves] + [[*native, baseline]]
    width = len(sides[-1])
    x = np.asarray([point.coefficient for point in sides[-1]])

    def ratio(_places: Any, means: Any) -> Any:
        slopes = [slope(x, means[:, start : start + width]) for start in range(0, means.shape[1], width)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.mean(slopes[:-1], axis=0) / slopes[-1]

    points = [point for side in sides for point in side]
    found = bootstrap.over_curve([point.coefficient for point in points], [point.trait_scores for point in points], ratio)
    if len(curves) < 2:
        return found
    alone = [recovery([curve], native, baseline, bootstrap, unsteered=unsteered).value for curve in curves]
    return _over_curves(found, [value for value in alone if value is not None])


def _over_curves(found: Estimate, alone: Sequence[float]) -> Estimate:
    """The interval over questions, widened by how much the curves differ."""
    if found.value is None or found.low is None or found.high is None or len(alone) < 2:
        return found
    reach = student_reach(stdev(alone), len(alone) - 1) / math.sqrt(len(alone))
    low, high = math.hypot(found.value - found.low, reach), math.hypot(found.high - found.value, reach)
    return Estimate(found.value, found.value - low, found.value + high, found.n)


def recovery_at(point: DosePoint, native: DosePoint, baseline: DosePoint, bootstrap: QuestionBootstrap) -> Estimate:
    """(carried - unsteered) / (native - unsteered) at one coefficient; no value where native moves less than 20 points."""
    if native_movement([native], baseline) < ENOUGH:
        return UNKNOWN

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
        return UNKNOWN
    known = sorted([*native, baseline], key=lambda point: point.coefficient)

    def ratio(_places: Any, means: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (means[:, 0] - means[:, 1]) / (means[:, 3] - means[:, 2])

    four = (positive, negative, known[0], known[-1])
    return bootstrap.over_curve([0.0, 1.0, 2.0, 3.0], [each.trait_scores for each in four], ratio)


def gated(point: DosePoint, baseline: DosePoint) -> tuple[float | None, ...]:
    """Trait scores; those of the unsteered answers where coherence is below 70 or the judge had no score.

    A push too long for the model breaks its answers, and what they then score is no effect of the trait.
    """
    triples = zip(point.trait_scores, point.coherence_scores, baseline.trait_scores, strict=True)
    return tuple(
        unsteered if score is None or (coherence is not None and coherence < COHERENT) else score
        for score, coherence, unsteered in triples
    )


def gated_movement(curve: Sequence[DosePoint], baseline: DosePoint) -> float:
    """The furthest any dose moves the gated score, in points."""
    base = baseline.trait
    if base is None:
        return 0.0
    means = [mean_known(gated(point, baseline)) for point in curve]
    return max((abs(mean - base) for mean in means if mean is not None), default=0.0)


def gated_recovery(
    curve: Sequence[DosePoint],
    of: Sequence[DosePoint],
    baseline: DosePoint,
    bootstrap: QuestionBootstrap,
    *,
    least: float = ENOUGH,
) -> Estimate:
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
    if gated_movement(of, baseline) < least:
        return UNKNOWN
    curve = at_coefficients_of(of, curve)
    signs = np.asarray([math.copysign(1.0, point.coefficient) for point in of])
    n = len(signs)

    def ratio(_places: Any, means: Any) -> Any:
        base = means[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((means[:, :n] - base) @ signs) / ((means[:, n : 2 * n] - base) @ signs)

    scores = [gated(point, baseline) for point in (*curve, *of)] + [baseline.trait_scores]
    return bootstrap.over_curve(list(map(float, range(len(scores)))), scores, ratio)


def _listed(points: Sequence[DosePoint]) -> str:
    return ", ".join(f"{point.coefficient:g}" for point in points) or "none"
