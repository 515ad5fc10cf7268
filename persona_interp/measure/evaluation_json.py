"""An `Evaluation` as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from persona_interp.measure.dose import DosePoint
from persona_interp.measure.evaluation import Curve, Evaluation
from persona_interp.measure.statistics import Estimate

_TEXTS = ("trait", "vector", "model", "judge", "positions")
_OVER_ALL = ("slope", "slope_per_ratio", "spearman", "pearson")


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """``{estimate, low, high, n}``; null where there is no value, or no interval."""
    return {"estimate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def items(evaluation: Evaluation) -> dict[str, Any]:
    """What `Evaluation.to_json` writes beside the format version: names -> values."""
    controls, coherent = evaluation.controls, evaluation.coherent_range

    def curve(one: Curve, label: str, base: DosePoint = controls.baseline) -> dict[str, Any]:
        return {label: one.name, "results": [_point_json(evaluation, each, base) for each in one.points]}

    def point(one: DosePoint) -> dict[str, Any]:
        return _point_json(evaluation, one, controls.baseline)

    return {
        **{name: getattr(evaluation, name) for name in _TEXTS},
        "layers": list(evaluation.layers),
        "results": [point(each) for each in evaluation.results],
        "controls": {
            "baseline": point(controls.baseline),
            "random": [curve(each, "vector") for each in controls.random],
            "other_vector": curve(controls.other_vector, "vector"),
            "other_trait": curve(controls.other_trait, "trait", evaluation.other_baseline),
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


def fields(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the fields of an `Evaluation` are in what was written."""
    controls: Mapping[str, Any] = data["controls"]
    prompted = controls["prompt_only"]
    curves = {
        "random": [_curve(each, "vector") for each in controls["random"]],
        "other_vector": _curve(controls["other_vector"], "vector"),
        "other_trait": _curve(controls["other_trait"], "trait"),
    }
    alone = {"prompted": prompted["positive"], "prompted_against": prompted["negative"]}
    return {**data, "controls": {**controls, **curves, **alone}}


def _point_json(evaluation: Evaluation, point: DosePoint, base: DosePoint) -> dict[str, Any]:
    return {
        "coefficient": point.coefficient,
        "perturbation_ratio": point.perturbation_ratio,
        "trait_score": estimate_json(evaluation.trait_score(point)),
        "coherence": estimate_json(evaluation.coherence(point)),
        "change": estimate_json(evaluation.change(point, base)),
        "examples": list(point.examples),
        "n_without_score": point.n_without_score,
        "trait_scores": list(point.trait_scores),
        "coherence_scores": list(point.coherence_scores),
    }


def _curve(data: Mapping[str, Any], label: str) -> dict[str, Any]:
    return {"name": data[label], "points": data["results"]}
