"""Diagnosing twins of a shipped organism: what was planted is named, nothing else, and its fix brings the effect back."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.models.registry import load_model
from persona_interp.organisms.twins import TwinRecipe
from persona_interp.studies.diagnoses.planted import planted_vector, twin_diagnosis

FAULTS = {"magnitude": {"scale": 12.0}, "basis": {"rotation_seed": 5}, "layers": {"inserted": (0, 0, 0)}}


@cache
def diagnosis(*causes: str) -> Diagnosis:
    recipe = TwinRecipe(**{name: value for cause in causes for name, value in FAULTS[cause].items()})
    folder = Path(mkdtemp(prefix="persona-interp-twins-"))
    return twin_diagnosis(load_model("organism-llama"), "silly", recipe, num_prompts=10, folder=folder)


def restored(found: Diagnosis, causes: tuple[str, ...]) -> float:
    value = found.recoveries[frozenset(causes)].value
    assert value is not None
    return value


def test_a_twin_without_a_fault_has_none() -> None:
    found = diagnosis()
    assert found.verdict.name == "none"
    assert restored(found, ()) == pytest.approx(1)


@pytest.mark.slow
def test_all_three_at_once_are_named_and_none_of_them_can_be_left_out() -> None:
    found = diagnosis(*CAUSES)
    assert found.verdict.name == "magnitude+basis+layers"
    assert restored(found, CAUSES) >= 0.95
    assert all((found.recoveries[fixed].value or 0) < 0.5 for fixed in subsets() if len(fixed) < 3)
    assert found.attribution is not None
    assert sum(found.attribution.values()) == pytest.approx(restored(found, CAUSES) - restored(found, ()))
    measured = found.measurements
    assert measured["magnitude"]["norm_ratio"] == pytest.approx(12, rel=0.01)
    assert measured["basis"]["held_out_r2"]["rotation"] > 0.999 > 0.5 > measured["basis"]["held_out_r2"]["identity"]
    assert measured["basis"]["cosine_to_native_after"] > 0.999
    assert (
        max(measured["basis"]["principal_angles_degrees"]["after"])
        < 1
        < max(measured["basis"]["principal_angles_degrees"]["before"])
    )
    assert (measured["layers"]["shift"], measured["layers"]["native_layer"]) == (3, 5)
    data = found.to_json("b")
    assert json.loads(json.dumps(data))["recoveries"] == data["recoveries"]
    assert (list(data["measurements"]), data["verdict"]) == (["basis"], found.verdict.name)
    assert data["conclusion"]["basis"].startswith("basis is a cause")
    assert set(data["recoveries"]) == {named(fixed) for fixed in subsets()}


def test_only_what_is_planted_can_be_diagnosed_as_planted() -> None:
    with pytest.raises(InvalidInputError, match="'polite' is not planted in organism-llama"):
        planted_vector(load_model("organism-llama"), "polite")


def test_any_vector_of_the_model_can_be_carried_into_a_twin() -> None:
    model = load_model("organism-llama")
    longer = planted_vector(model, "silly") * 1.5
    found = twin_diagnosis(model, "silly", TwinRecipe(scale=2.0), vector=longer, num_prompts=4)
    assert found.measurements["magnitude"]["norm"] == pytest.approx(float(longer.norms[0]), rel=1e-4)
    assert found.measurements["magnitude"]["native_norm"] == pytest.approx(2 * float(longer.norms[0]), rel=1e-4)
    with pytest.raises(InvalidInputError, match="is not planted in organism-natural"):
        twin_diagnosis(load_model("organism-natural"), "silly", TwinRecipe())
