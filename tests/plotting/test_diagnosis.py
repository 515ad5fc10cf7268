"""Figures of a diagnosis: what they show, and that a file of one hypothesis has its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona_interp.measure.diagnostics.causes import CAUSES, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.point import DosePoint
from persona_interp.plotting.diagnosis import diagnoses_figure, diagnosis_figures, save_diagnosis_report

MEASURED = {
    "magnitude": {
        "resid_norms_source": [1.0, 2.0],
        "resid_norms_target": [3.0, 4.0, 5.0],
        "source_perturbation_ratio_by_layer": [None, 0.4],
        "unfixed_perturbation_ratio_by_layer": [0.3, 0.2, 0.1],
        "native_perturbation_ratio_by_layer": [0.5, 0.5, None],
    },
    "basis": {
        "held_out_r2": {"identity": -0.5, "rotation": 0.4, "general": 0.9},
        "principal_angles_degrees": {"before": [40.0, 80.0], "after": [1.0, 2.0]},
    },
    "layers": {"similarity": [[1.0, 0.5, 0.2], [0.4, 0.9, 0.8]], "layer_path": [0, 2], "same_index": 1, "matched_layer": 2},
}


def curve(move: float) -> tuple[DosePoint, ...]:
    return tuple(DosePoint(c, 0.4, (50 + move * c,) * 4, (90.0,) * 4) for c in (-1.0, 1.0))


def made() -> Diagnosis:
    return Diagnosis(
        "silly", "a", "b", "j", ("one", "two"), 2, (-1.0, 1.0), DosePoint(0, 0, (50.0,) * 4, (90.0,) * 4), curve(40),
        {fixed: curve(40 if "basis" in fixed else 2) for fixed in subsets()}, {0: curve(4), 1: curve(20), 2: curve(40)}, MEASURED,
        curve(10),
    )  # fmt: skip


def test_bars_are_the_recoveries_and_contributions() -> None:
    drawn: list[Any] = list(diagnosis_figures(made()))
    recovery, attribution = drawn[:2]
    assert recovery.data[0].x[0] == "none"
    assert recovery.data[0].x[-1] == "all, basis<br>by states"
    assert list(recovery.data[0].y) == pytest.approx([0.05, 0.05, 1, 0.05, 1, 0.05, 1, 1, 0.25])
    assert attribution.data[0].x == CAUSES
    assert list(attribution.data[0].y) == pytest.approx([0, 0.95, 0])


def test_every_measurement_has_its_figure_and_every_axis_its_unit() -> None:
    figures: list[Any] = list(diagnosis_figures(made()))
    assert len(figures) == 8
    assert all(figure.layout.yaxis.title.text for figure in figures)
    ratios, angles, scan = figures[3], figures[5], figures[7]
    assert ratios.data[2].y == (0.5, 0.5, None)
    assert angles.data[1].y == (1.0, 2.0)
    assert scan.data[0].marker.color[1] != scan.data[0].marker.color[2] != scan.data[0].marker.color[0]


def test_the_file_of_one_hypothesis_gives_a_page_with_its_figures(tmp_path: Path) -> None:
    back = Diagnosis.from_json(made().to_json("b"))
    figures: list[Any] = list(diagnosis_figures(back))
    assert [figure.layout.title.text.split()[0] for figure in figures] == ["Recovery", "What", "How", "Principal"]
    page = save_diagnosis_report(tmp_path / "d.html", back).read_text(encoding="utf-8")
    assert "<h1>silly, a to b: basis</h1>" in page
    assert "basis is a cause: fixed alone" in page
    assert "layers is not a cause" not in page


def test_several_diagnoses_are_told_apart_by_the_columns_that_recover() -> None:
    found = made()
    figure: Any = diagnoses_figure({"turned": found, "also turned": found})
    (heat,) = figure.data
    assert list(heat.y) == [f"{name}<br><b>{found.verdict.name}</b>" for name in ("turned", "also turned")]
    assert heat.x[0] == "none"
    assert list(heat.z[0]) == [found.recoveries[fixed].value for fixed in subsets()]
    assert heat.text[0][2] == f"{found.recoveries[frozenset({'basis'})].value:.2f}"
