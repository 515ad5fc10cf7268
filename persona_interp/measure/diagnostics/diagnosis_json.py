"""A `Diagnosis` as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, HYPOTHESES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.gated_recovery import Curve
from persona_interp.measure.dose import DosePoint
from persona_interp.measure.evaluation_json import estimate_json

_TEXTS = ("trait", "source", "target", "judge")


def to_json(found: Diagnosis, hypothesis: str) -> dict[str, Any]:
    """What `Diagnosis.to_json` writes beside the format version."""
    causes = tuple(found.measurements) if hypothesis == "all" else (HYPOTHESES[hypothesis],)
    if missing := [cause for cause in causes if cause not in found.measurements]:
        raise InvalidInputError(
            f"this diagnosis has no measurements of {missing[0]}, only of {', '.join(found.measurements)}: it was read from the "
            "file of one hypothesis; read that of another one"
        )
    by_states = found.recovery_by_states
    return {
        "hypothesis": hypothesis,
        **{name: getattr(found, name) for name in _TEXTS},
        "samples": found.samples,
        "measurements": {cause: dict(found.measurements[cause]) for cause in causes},
        "conclusion": {cause: found.conclusion(cause) for cause in causes},
        "verdict": found.verdict.name,
        "reason": found.verdict.reason,
        "causes": dict(found.verdict.causes),
        "recoveries": {named(fixed): estimate_json(value) for fixed, value in found.recoveries.items()},
        "recovery_by_states": None if by_states is None else estimate_json(by_states),
        "left_without": {cause: estimate_json(value) for cause, value in found.left_without.items()},
        "attribution": found.attribution,
        "behavioural_layer_scan": {str(layer): estimate_json(value) for layer, value in found.scanned.items()},
        "coefficients": list(found.coefficients),
        "questions": list(found.questions),
        "baseline": found.baseline.to_json(),
        "native": _curve_json(found.native),
        "arms": {named(fixed): _curve_json(curve) for fixed, curve in found.arms.items()},
        "by_states": _curve_json(found.by_states),
        "scan": {str(layer): _curve_json(curve) for layer, curve in found.scan.items()},
        "provenance": dict(found.provenance),
    }


def from_json(data: Mapping[str, Any]) -> Diagnosis:
    """The inverse; a missing field raises KeyError, a malformed one TypeError, ValueError or AttributeError."""
    found = Diagnosis(
        **{name: str(data[name]) for name in _TEXTS},
        questions=tuple(map(str, data["questions"])),
        samples=int(data["samples"]),
        coefficients=tuple(map(float, data["coefficients"])),
        baseline=DosePoint.from_json(data["baseline"]),
        native=_curve(data["native"]),
        arms={fixed: _curve(data["arms"][named(fixed)]) for fixed in subsets()},
        scan={int(layer): _curve(curve) for layer, curve in data["scan"].items()},
        measurements={cause: dict(data["measurements"][cause]) for cause in CAUSES if cause in data["measurements"]},
        by_states=_curve(data["by_states"]),
        provenance=dict(data["provenance"]),
    )
    _check(found)
    return found


def _check(found: Diagnosis) -> None:
    if not found.measurements:
        raise ValueError("measurements of no cause")
    wanted, n = list(found.coefficients), len(found.questions) * found.samples
    curves = [found.native, *found.arms.values(), *found.scan.values(), *([found.by_states] if found.by_states else [])]
    for curve in curves:
        if [point.coefficient for point in curve] != wanted:
            raise ValueError(f"a curve at {[point.coefficient for point in curve]} where coefficients are {wanted}")
    for point in (found.baseline, *(point for curve in curves for point in curve)):
        if not len(point.trait_scores) == len(point.coherence_scores) == n:
            raise ValueError(f"{point.n} scores of {len(found.questions)} questions with {found.samples} answers each")


def _curve_json(curve: Curve) -> list[dict[str, Any]]:
    return [point.to_json() for point in curve]


def _curve(data: Any) -> Curve:
    return tuple(map(DosePoint.from_json, data))
