"""Results as JSON: files of before load and are written again as they were, and errors name the field."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.records import Record, json_value

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "recorded"
FIGURES = ROOT / "figures"

KINDS = {
    "estimate": "measure.statistics.Estimate",
    "estimate_undefined": "measure.statistics.Estimate",
    "layer_effectiveness": "measure.effectiveness.LayerEffectiveness",
    "evaluation": "measure.evaluation.Evaluation",
    "diagnosis": "measure.diagnostics.diagnosis.Diagnosis",
    "transfer_evaluation": "measure.transfer_evaluation.TransferEvaluation",
    "modulated": "measure.modulation.Modulated",
    "prediction": "monitoring.prediction.Prediction",
    "screening": "monitoring.screening.Screening",
    "finetuning_shift": "monitoring.shift.FinetuningShift",
    "projections": "monitoring.projection.Projections",
    "vector_lens": "attribution.vector_lens.VectorLens",
    "model_identity": "models.identity.ModelIdentity",
    "model_identity_gguf": "models.identity.ModelIdentity",
    "massive_dimension": "vectors.massive.MassiveDimension",
    "rollout": "vectors.rollouts.rollout.Rollout",
    "conversation": "traits.conversation.Conversation",
    "transfer_case": "studies.transfers.TransferCase",
}
"""File in tests/recorded, written by version 0.1 -> what it holds."""


def kept() -> Iterator[tuple[str, Any]]:
    """(class, JSON) of the results behind README's figures and cards."""
    for folder, kind in (
        ("doses", "measure.evaluation.Evaluation"),
        ("scans", "measure.layer_scan.LayerScan"),
        ("layers", "studies.layers.LayerBench"),
    ):
        yield from ((kind, json.loads(path.read_text())) for path in sorted((FIGURES / folder).glob("*.json")))
    for case in json.loads((FIGURES / "attribution.json").read_text())["cases"]:
        yield "studies.attribution.AttributionCase", case
    for case in json.loads((FIGURES / "judges.json").read_text())["validations"]:
        yield "studies.judges.judge_validation.JudgeValidation", case
    for case in json.loads((FIGURES / "modulation.json").read_text())["cases"]:
        yield "measure.modulation.Modulated", case
    quantization = json.loads((FIGURES / "quantization.json").read_text())
    for case in quantization["rows"]:
        yield "studies.reproduction.quantized_steering.QuantizedSteering", case
    for case in quantization["parity"]:
        yield "studies.reproduction.residual_parity.ResidualParity", case
    for path in sorted((ROOT / "persona_interp" / "organisms" / "weights").glob("*/card.json")):
        yield "studies.organism_cards.card.OrganismCard", json.loads(path.read_text())


def called(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    return getattr(importlib.import_module(f"persona_interp.{module}"), kind)


NEWER = "n_without_score"
"""What points of transfers have since all points have one form."""


def text(value: Any) -> str:
    """JSON, numbers to nine digits: estimates are computed again, and the last digits are the processor's."""
    return json.dumps(rounded(value), indent=1, sort_keys=True)


def as_far_as(found: Any, before: Any) -> Any:
    """`found` without the newer field where `before` has none."""
    if isinstance(found, Mapping) and isinstance(before, Mapping):
        known = {key: value for key, value in found.items() if key != NEWER or key in before}
        return {key: as_far_as(value, before.get(key)) for key, value in known.items()}
    if isinstance(found, list | tuple) and isinstance(before, list) and len(found) == len(before):
        return [as_far_as(*both) for both in zip(found, before, strict=True)]
    return found


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return list(map(rounded, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", KINDS)
def test_what_the_version_before_wrote_is_read_and_written_again(name: str) -> None:
    before, kind = json.loads((RECORDED / f"{name}.json").read_text()), called(KINDS[name])
    extra: dict[str, Any] = {"source": "a log"} if name == "rollout" else {}
    found = kind.from_json(before, **extra)
    assert text(as_far_as(found.to_json(), before)) == text(before)
    assert kind.from_json(json.loads(json.dumps(found.to_json())), **extra) == found


def test_results_of_figures_and_cards_are_written_again_as_they_are() -> None:
    results = list(kept())
    assert len(results) > 50
    for name, before in results:
        assert text(as_far_as(called(name).from_json(before).to_json(), before)) == text(before), name


@dataclass(frozen=True)
class Point(Record):
    x: float
    label: Literal["near", "far"] = "near"
    marks: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Route(Record):
    json_kind = "route"
    json_version = 2
    json_names = ("name", "n", "points", "by_layer", "ends", "open")
    json_newer = ("open",)

    name: str
    points: tuple[Point, ...]
    by_layer: Mapping[int, Point]
    ends: tuple[float, float] | None
    open: bool = True

    def __post_init__(self) -> None:
        if not self.points:
            raise InvalidInputError("a route without points: give one")

    @property
    def n(self) -> int:
        return len(self.points)


ROUTE = Route("a", (Point(1), Point(2.5, "far", (None, 3.0))), {3: Point(0)}, (0.0, 1.0))


def data(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(ROUTE.to_json())), **changes}


def test_what_is_written_follows_from_the_fields_in_the_order_asked_for() -> None:
    found = data()
    assert list(found) == ["format_version", "name", "n", "points", "by_layer", "ends", "open"]
    assert found["points"][1] == {"x": 2.5, "label": "far", "marks": [None, 3.0]}
    assert list(found["by_layer"]) == ["3"]
    assert Route.from_json(found) == ROUTE
    assert Route.from_json(data(unheard_of=1, n="wrong")) == ROUTE
    assert type(Route.from_json(found).points[0].x) is float
    assert Route.from_json({name: value for name, value in found.items() if name != "open"}).open
    assert json_value({1: (ROUTE,)})["1"][0]["n"] == 2


@pytest.mark.parametrize(
    ("damaged", "named"),
    [
        (data(format_version=1), "p.json: format_version 1 is not 2"),
        (data(name=3), "p.json: field name is malformed (expected text, found 3)"),
        (data(open=1), "field open is malformed (expected true or false, found 1)"),
        (data(points=[{"x": True}]), "field points[0].x is malformed (expected a number, found True)"),
        (data(points=[{"x": 1}]), "p.json: field 'label' is missing in points[0]"),
        (data(points=[{**ROUTE.points[0].to_json(), "label": "off"}]), "expected 'near' or 'far', found 'off'"),
        (data(points=[{**ROUTE.points[0].to_json(), "marks": [1, "x"]}]), "points[0].marks[1] is malformed (expected a number"),
        (data(points=[7]), "field points[0] is malformed (expected an object, found 7)"),
        (data(points="abc"), "field points is malformed (expected a list, found 'abc')"),
        (data(points=[]), "p.json: a field is malformed (a route without points: give one)"),
        (
            data(by_layer={"two": ROUTE.points[0].to_json()}),
            "by_layer is malformed (expected whole numbers as keys, found",
        ),
        (data(by_layer={"2": {}}), "field 'x' is missing in by_layer[2]"),
        (data(ends=[1]), "field ends is malformed (expected 2 values, found [1])"),
    ],
)
def test_a_damaged_file_is_refused_by_source_and_field(damaged: Any, named: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        Route.from_json(damaged, source="p.json")
    assert named in str(caught.value)


def test_a_type_that_json_cannot_hold_is_the_programmers_error() -> None:
    @dataclass(frozen=True)
    class Odd(Record):
        call: Callable[[], None]

    with pytest.raises(TypeError, match="cannot be read from JSON"):
        Odd.from_json({"call": 1})


def test_records_need_no_heavy_library() -> None:
    code = "import sys, persona_interp.records; print([n for n in ('numpy', 'torch', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
