"""A diagnosis as a file: it comes back whole, and what is not one is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.point import DosePoint


def curve(move: float) -> tuple[DosePoint, ...]:
    return tuple(DosePoint(c, 0.4, (50 + move * c, None, 50 + move * c), (90.0, 80.0, None), ("so",)) for c in (-1.5, 1.5))


def made(*, by_states: bool = True) -> Diagnosis:
    return Diagnosis(
        trait="silly",
        source="a",
        target="b",
        judge="j",
        questions=("one", "two", "three"),
        samples=1,
        coefficients=(-1.5, 1.5),
        baseline=DosePoint(0.0, 0.0, (50.0, 50.0, 50.0), (90.0,) * 3),
        native=curve(20),
        arms={fixed: curve(20 if "basis" in fixed else 1) for fixed in subsets()},
        scan={0: curve(0), 3: curve(20)},
        measurements={"magnitude": {"norm": 2.0}, "basis": {"method": "effects"}, "layers": {"path": [0, 1], "ties": [1]}},
        by_states=curve(3) if by_states else (),
        provenance={"seed": 0},
    )


def test_a_diagnosis_comes_back_with_its_scores_and_says_the_same() -> None:
    found = made()
    back = Diagnosis.from_json(json.loads(json.dumps(found.to_json())))
    assert back == found
    assert back.provenance == found.provenance
    assert back.to_json() == found.to_json()
    assert (back.verdict, back.attribution) == (found.verdict, found.attribution)
    assert found.verdict.name == "basis"
    assert found.recovery_by_states is not None
    assert found.recovery_by_states.value == pytest.approx(0.15)
    assert made(by_states=False).recovery_by_states is None
    assert Diagnosis.from_json(made(by_states=False).to_json()).by_states == ()


def test_the_file_of_one_hypothesis_holds_the_measurements_of_one_cause() -> None:
    back = Diagnosis.from_json(made().to_json("b"))
    assert list(back.measurements) == ["basis"]
    assert {cause: back.conclusion(cause) for cause in CAUSES} == {cause: made().conclusion(cause) for cause in CAUSES}
    assert back.to_json("b") == made().to_json("b")
    with pytest.raises(InvalidInputError, match="no measurements of layers, only of basis"):
        back.to_json("c")


def damaged(**changes: Any) -> dict[str, Any]:
    return {**made().to_json(), **changes}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (damaged(format_version=1), "x.json: format_version 1 is not 2"),
        ({}, "format_version None is not 2"),
        ({name: value for name, value in made().to_json().items() if name != "native"}, "field 'native' is missing"),
        (damaged(arms={named(fixed): [] for fixed in subsets()[:-1]}), "field 'magnitude.basis.layers' is missing"),
        (damaged(native=[]), "malformed .a curve at .. where coefficients are"),
        (damaged(samples=2), "malformed .coefficient 0 has 3 trait and 3 coherence scores for 3 questions with 2 answers each"),
        (damaged(measurements={}), "measurements of no cause"),
        (damaged(scan={"first": []}), r"field scan.* is malformed"),
        (damaged(questions=3), "field questions is malformed"),
        (damaged(provenance=None), "field provenance is malformed"),
    ],
)
def test_what_is_no_diagnosis_is_refused_with_its_name_and_the_field(data: dict[str, Any], said: str) -> None:
    with pytest.raises(FileFormatError, match=said) as error:
        Diagnosis.from_json(data, source="x.json")
    assert "x.json" in str(error.value)
