"""One paragraph that says what an evaluation found, and no more than it can bear."""

from __future__ import annotations

from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.evaluation_scores import Curve, EvaluationScores
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate


def strongest(evaluation: EvaluationScores) -> DosePoint | None:
    """The result that moved the trait score furthest from the baseline, of those in the coherent range.

    Where nobody judged coherence, of all. None where no steered result has a score.
    """
    found = evaluation.coherent_range
    judged = any(point.coherence is not None for point in evaluation.curve)
    moved: list[tuple[float, DosePoint]] = []
    for point in evaluation.results:
        inside = not judged or (found is not None and found.low <= point.coefficient <= found.high)
        change = evaluation.change(point).value
        if point.coefficient != 0 and inside and change is not None:
            moved.append((abs(change), point))
    return max(moved, key=lambda each: each[0])[1] if moved else None


def verdict(evaluation: EvaluationScores) -> str:
    """What steering did at its strongest coherent coefficient, beside what the controls did at the same one."""
    trait, baseline = evaluation.trait, evaluation.trait_score(evaluation.controls.baseline)
    if baseline.value is None:
        return f"Nothing can be said: the judge {evaluation.judge!r} gave the unsteered answers no {trait} score."
    point = strongest(evaluation)
    if point is None:
        if all(each.trait is None for each in evaluation.results if each.coefficient != 0):
            return f"Nothing can be said: the judge {evaluation.judge!r} gave no steered answer a {trait} score."
        return f"No coefficient steered and kept a coherence of {COHERENT:g}: try smaller ones."
    change = evaluation.change(point)
    scores = f"from {baseline.value:.0f} to {point.trait or 0.0:.0f} ({_signed(change)} points)"
    effect = f"Coefficient {point.coefficient:g} takes {trait} {scores}{_cost(point)}."
    return " ".join([_headline(evaluation, point, change), effect, *_controls(evaluation, point)])


def _headline(evaluation: EvaluationScores, point: DosePoint, change: Estimate) -> str:
    if change.value is None or change.low is None or change.high is None:
        return "Whether this vector steers cannot be told, for there is no interval."
    if change.low <= 0 <= change.high:
        return "This vector was not shown to steer: the interval of its largest change includes 0."
    if (change.value > 0) != (point.coefficient > 0):
        return "This vector steers the wrong way round at its strongest coefficient."
    if abs(change.value) <= max(
        (_furthest(evaluation, curve, point) or 0.0 for curve in evaluation.controls.random), default=0.0
    ):
        return "This vector does no more than a random direction."
    if abs(change.value) <= (_furthest(evaluation, evaluation.controls.other_vector, point) or 0.0):
        return f"This vector does no more than one for {evaluation.controls.other_vector.name!r}."
    return "This vector steers."


def _cost(point: DosePoint) -> str:
    coherence = "coherence not judged" if point.coherence is None else f"coherence {point.coherence:.0f}"
    ratio = "" if point.perturbation_ratio is None else f", perturbation ratio {point.perturbation_ratio:.2f}"
    return f", {coherence}{ratio}"


def _controls(evaluation: EvaluationScores, point: DosePoint) -> list[str]:
    controls, said = evaluation.controls, []
    drawn = [moved for curve in controls.random if (moved := _furthest(evaluation, curve, point)) is not None]
    if drawn:
        which = "the random direction" if len(drawn) == 1 else f"{len(drawn)} random directions"
        other = _furthest(evaluation, controls.other_vector, point)
        also = "" if other is None else f", the vector {controls.other_vector.name!r} by {other:.0f}"
        said.append(f"With the same norm or less and either sign, {which} moved it by {max(drawn):.0f} points at most{also}.")
    elsewhere = controls.other_trait.at(point.coefficient)
    if elsewhere is not None and elsewhere.trait is not None and evaluation.other_baseline.trait is not None:
        moved = evaluation.change(elsewhere, evaluation.other_baseline)
        said.append(f"The same answers change by {_signed(moved)} points in {controls.other_trait.name!r}.")
    prompted = controls.prompted if point.coefficient > 0 else controls.prompted_against
    if prompted.trait is not None:
        asked = "for" if point.coefficient > 0 else "against"
        said.append(f"System prompts asking {asked} it, without steering, give {prompted.trait:.0f}.")
    return said


def _furthest(evaluation: EvaluationScores, curve: Curve, point: DosePoint) -> float | None:
    """The largest change, in points, of a control at coefficients of either sign up to that of `point`."""
    near = [each for each in curve.points if abs(each.coefficient) <= abs(point.coefficient)]
    changes = [abs(change) for each in near if (change := evaluation.change(each).value) is not None]
    return max(changes, default=None)


def _signed(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    ends = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:+.0f}, {estimate.high:+.0f}]"
    return f"{estimate.value:+.0f}{ends}"
