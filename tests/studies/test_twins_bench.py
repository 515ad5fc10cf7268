"""The bench of diagnoses: what counts as planted, and what the bar asks for."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.verdict import Verdict
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.studies.diagnoses import twins_bench as module
from persona_interp.studies.diagnoses.twins_bench import FAMILIES, TRAITS, PlantedCase, bench, bench_json, rounds, unmet


def case(planted: str, verdict: str) -> PlantedCase:
    return PlantedCase("m", "silly", {}, planted, planted, verdict, 0.1, 1.0, 1.0, "")


def test_rounds_cover_families_traits_and_harmless_sizes() -> None:
    made = list(islice(rounds(), 8))
    assert {(each.model, each.trait) for each in made} == {(model, trait) for model in FAMILIES for trait in TRAITS}
    for each in made:
        assert [named(each.recipe(changed).faults) for changed in subsets()] == [named(changed) for changed in subsets()]
    assert any(1 / 3 < each.recipe(frozenset(CAUSES)).scale < 3 for each in made)


def test_a_fault_counts_as_planted_where_it_alone_does_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Here a change of basis does none, so cases with it are planted without it."""
    calls: list[Any] = []

    def found(_model: object, _trait: str, recipe: Any, **_: object) -> Any:
        calls.append(recipe)
        value = 1.0 if set(recipe.faults) <= {"basis"} else 0.0
        known = {fixed: Estimate(value if not fixed else 1.0, None, None, 1) for fixed in subsets()}
        point = DosePoint(0.0, None, (), ())
        made = Diagnosis("silly", "a", "b", "j", (), 1, (), point, (), {}, {}, {})
        vars(made).update(recoveries=known, verdict=Verdict("none", "so"))
        return made

    monkeypatch.setattr(module, "twin_diagnosis", found)
    monkeypatch.setattr(module, "load_model", lambda _: None)
    cases = bench(12, folder=tmp_path)
    assert (len(cases), len(calls)) == (12, 16)
    assert {each.changed: each.planted for each in cases[:8]}["magnitude+basis"] == "magnitude"
    assert {each.changed: each.planted for each in cases[:8]}["basis"] == "none"
    assert bench(8, folder=tmp_path) == cases[:8]
    assert len(calls) == 16, "what was measured is read again"
    with pytest.raises(InvalidInputError, match="7 cases are too few"):
        bench(7, folder=tmp_path)


def test_the_bar_names_what_is_missed() -> None:
    good = [case("none", "none"), case("basis", "basis"), case("magnitude+layers", "magnitude+layers")]
    assert unmet(good) == []
    assert bench_json(good)["exact_share"] == 1
    assert bench_json(good)["confusion"] == {
        "none": {"none": 1},
        "basis": {"basis": 1},
        "magnitude+layers": {"magnitude+layers": 1},
    }
    blamed = bench_json([*good, case("basis", "magnitude+basis")])
    assert blamed["exact_share"] == 0.75
    assert len(blamed["blamed_on_another"]) == 1
    assert blamed["unmet"] == ["75.0% of the verdicts are exact", "basis called magnitude+basis"]
    assert unmet([*good * 10, case("basis", "inconclusive")]) == []
    assert unmet([*good * 10, case("none", "layers")]) == ["no fault called layers"]
    assert unmet([*good, replace(good[1], mended=0.9)]) == ["1 twins are not restored to 0.95"]
    assert unmet([*good, replace(good[1], restored=0.93)]) == [], "a harmless fault that is left as it is"
