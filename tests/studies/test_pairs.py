"""Diagnoses of real pairs: kept as files, told in a table, and what is not explained is said plainly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import FileFormatError
from persona_interp.measure.diagnostics.causes import CAUSES, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.point import DosePoint
from persona_interp.models.identity import ModelIdentity
from persona_interp.studies.diagnoses import pairs_bench as module
from persona_interp.studies.diagnoses.pairs_bench import PairCase, pairs_bench, pairs_from_json, pairs_json
from persona_interp.studies.diagnoses.pairs_text import pairs_markdown, pairs_summary
from persona_interp.vectors.persona_vector import PersonaVector

MEASURED: dict[str, dict[str, Any]] = {cause: dict.fromkeys(names, 1) for cause, names in module._MEASURED.items()}


def curve(move: float) -> tuple[DosePoint, ...]:
    return tuple(DosePoint(c, 0.4, (50 + move * c,) * 4, (90.0,) * 4) for c in (-1.0, 1.0))


def found(*needed: str, trait: str = "silly", full: float = 40.0, by_states: float = 2.0) -> Diagnosis:
    """A diagnosis in which the fixes of all the needed causes bring the effect back."""
    return Diagnosis(
        trait, "organism-a", "organism-b", "grammar", ("one", "two"), 2, (-1.0, 1.0), DosePoint(0, 0, (50.0,) * 4, (90.0,) * 4),
        curve(40), {fixed: curve(full if set(needed) <= fixed else 1) for fixed in subsets()}, {}, MEASURED, curve(by_states),
    )  # fmt: skip


def test_a_row_has_what_each_fix_contributes_and_the_summary_what_is_not_explained() -> None:
    cases = [PairCase.of(each) for each in (found("basis"), found("basis", "layers"), found(*CAUSES, trait="honest", full=4))]
    row = pairs_markdown(cases).splitlines()[2]
    assert row.startswith("| a → b | silly | 0.03 [0.03, 0.03] | 1.00 [1.00, 1.00] |")
    assert row.endswith("| 0.00 | 0.97 | 0.00 | 0.05 [0.05, 0.05] | 1 → 1 (1) | basis |")
    said = pairs_summary(cases)
    assert "3 of 3 vectors lose their effect when carried as they are; in 2 of these the three fixes together" in said
    assert "basis: present in 2, excluded in 0, open in 1" in said
    assert "NOT explained by length, basis and layer: a → b honest" in said
    assert "silly: with the basis fixed by a linear map of states instead 0.05 (0.05 to 0.05); below 0.5" in said
    assert "silly: of that, on average: magnitude 0.00, basis 0.73, layers 0.24" in said


def test_an_inconclusive_row_names_what_is_established_and_what_is_open() -> None:
    case = PairCase.of(found("basis"))
    states = {"magnitude": "open", "basis": "present", "layers": "excluded"}
    changed = PairCase(**{**vars(case), "verdict": "inconclusive", "causes": states})
    assert pairs_markdown([changed]).splitlines()[2].endswith("| basis; open: magnitude |")
    assert "which causes is not settled in: a → b silly" in pairs_summary([changed])


def test_cases_come_back_from_their_file_and_damage_is_named() -> None:
    cases = [PairCase.of(found("basis")), PairCase.of(found("magnitude", by_states=0))]
    data = json.loads(json.dumps(pairs_json(cases)))
    assert pairs_from_json(data) == cases
    with pytest.raises(FileFormatError, match="p.json: format_version 9 is not 1"):
        pairs_from_json({**data, "format_version": 9}, source="p.json")
    with pytest.raises(FileFormatError, match="p.json: field 'source' is missing"):
        pairs_from_json({**data, "cases": [{}]}, source="p.json")
    with pytest.raises(FileFormatError, match="'cases' is missing"):
        pairs_from_json({"format_version": 1}, source="p.json")


def a_vector(name: str) -> PersonaVector:
    return PersonaVector(torch.ones(1, 4), (0,), name, ModelIdentity("m", None, "f", 1, 4))


def test_every_ordered_pair_is_diagnosed_once_and_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def diagnose(target: str, vector: PersonaVector, native: PersonaVector, *_: Any, **__: Any) -> Diagnosis:
        asked.append((vector.trait, native.trait, target))
        return found("basis")

    monkeypatch.setattr(module, "diagnose", diagnose)
    monkeypatch.setattr(module, "load_model", lambda name: name)
    monkeypatch.setattr(module, "scored_vector", lambda model, *_, **__: a_vector(f"of {model}"))
    monkeypatch.setattr(module, "read_rows", lambda *_, **__: None)
    first = pairs_bench(("a", "b", "c"), ("silly",), folder=tmp_path)
    assert asked[0] == ("of a", "of b", "b")
    assert (len(asked), len(set(asked))) == (6, 6)
    assert pairs_bench(("a", "b", "c"), ("silly",), folder=tmp_path) == first
    assert len(asked) == 6
