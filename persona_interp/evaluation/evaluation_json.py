"""An `Evaluation` as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from persona_interp.evaluation.dose import DosePoint
from persona_interp.evaluation.evaluation import Controls, Curve, Evaluation
from persona_interp.evaluation.statistics import Estimate

_TEXTS = ("trait", "vector", "model", "judge", "positions")
_OVER_ALL = ("slope", "slope_per_ratio", "spearman", "pearson")


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """``{estimate, low, high, n}``; null where there is no value, or no interval."""
    return {"estimate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """What `Evaluation.to_json` writes beside the format version."""
    controls, coherent = evaluation.controls, evaluation.coherent_range

    def point(one: DosePoint, *, own: bool = True) -> dict[str, Any]:
        return _point_json(evaluation, one, own)

    def curve(one: Curve, label: str, *, own: bool = True) -> dict[str, Any]:
        return {label: one.name, "results": [point(each, own=own) for each in one.points]}

    return {
        **{name: getattr(evaluation, name) for name in _TEXTS},
        "layers": list(evaluation.layers),
        "results": [point(each) for each in evaluation.results],
        "controls": {
            "baseline": point(controls.baseline),
            "random": [curve(each, "vector") for each in controls.random],
            "other_vector": curve(controls.other_vector, "vector"),
            "other_trait": curve(controls.other_trait, "trait", own=False),
            "prompt_only": {"positive": point(controls.prompted), "negative": point(controls.prompted_against)},
        },
        **{name: estimate_json(getattr(evaluation, name)) for name in _OVER_ALL},
        "coherent_range": None
        if coherent is None
        else {"low": coherent.low, "high": coherent.high, "threshold": coherent.threshold},
        "notes": list(evaluation.notes),
        "questions": list(evaluation.questions),
        "samples": evaluation.samples,
        "provenance": dict(evaluation.provenance),
    }


def from_json(data: Mapping[str, Any]) -> Evaluation:
    """The inverse; a missing field raises KeyError, a malformed one TypeError, ValueError or AttributeError."""
    controls: Mapping[str, Any] = data["controls"]
    prompted = controls["prompt_only"]
    return Evaluation(
        **{name: str(data[name]) for name in _TEXTS},
        layers=tuple(map(int, data["layers"])),
        questions=tuple(map(str, data["questions"])),
        samples=int(data["samples"]),
        results=_points(data["results"]),
        controls=Controls(
            baseline=_point(controls["baseline"]),
            random=tuple(_curve(each, "vector") for each in controls["random"]),
            other_vector=_curve(controls["other_vector"], "vector"),
            other_trait=_curve(controls["other_trait"], "trait"),
            prompted=_point(prompted["positive"]),
            prompted_against=_point(prompted["negative"]),
        ),
        provenance=dict(data["provenance"]),
    )


def _point_json(evaluation: Evaluation, point: DosePoint, own: bool) -> dict[str, Any]:
    """`own`: the scores are for the evaluation's own trait, so that a change from its baseline means something."""
    return {
        "coefficient": point.coefficient,
        "perturbation_ratio": point.perturbation_ratio,
        "trait_score": estimate_json(evaluation.trait_score(point)),
        "coherence": estimate_json(evaluation.coherence(point)),
        **({"change": estimate_json(evaluation.change(point))} if own else {}),
        "examples": list(point.examples),
        "n_without_score": point.n_without_score,
        "trait_scores": list(point.trait_scores),
        "coherence_scores": list(point.coherence_scores),
    }


def _curve(data: Mapping[str, Any], label: str) -> Curve:
    return Curve(str(data[label]), _points(data["results"]))


def _points(data: Any) -> tuple[DosePoint, ...]:
    return tuple(map(_point, data))


def _point(data: Mapping[str, Any]) -> DosePoint:
    ratio = data["perturbation_ratio"]
    return DosePoint(
        coefficient=float(data["coefficient"]),
        perturbation_ratio=None if ratio is None else float(ratio),
        trait_scores=_scores(data["trait_scores"]),
        coherence_scores=_scores(data["coherence_scores"]),
        examples=tuple(map(str, data["examples"])),
    )


def _scores(values: Any) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)
