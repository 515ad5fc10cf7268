"""What results look like in a notebook, as IPython itself formats them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from persona_interp.html_table import html_table
from persona_interp.measure.diagnostics.causes import CAUSES, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.dose import DosePoint, DoseResponse
from persona_interp.measure.effectiveness import LayerEffectiveness, LayerScore
from persona_interp.measure.evaluation import Controls, Curve, Evaluation
from persona_interp.measure.layer_plan import LayerPlan
from persona_interp.models.identity import ModelIdentity
from persona_interp.transfers.coverage import Coverage
from persona_interp.transfers.report import LayerFit, TransferReport
from persona_interp.vectors.persona_vector import PersonaVector

RISKY = "<b>sil&ly</b>"
OURS, THEIRS = ModelIdentity("<i>ours</i>", None, "", 2, 3), ModelIdentity("theirs", None, "", 2, 4)


def displayed(result: Any) -> dict[str, str]:
    bundle, _ = DisplayFormatter().format(result)
    return bundle


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def point(coefficient: float, trait: float) -> DosePoint:
    return DosePoint(coefficient, abs(coefficient), (trait, trait + 2), (90.0, 92.0))


def vector() -> PersonaVector:
    return PersonaVector(torch.eye(3)[:2] * 4, (0, 1), RISKY, OURS, statistics={"resid_norm": (8.0, None)})


def effectiveness(*values: float | None) -> LayerEffectiveness:
    scores = tuple(LayerScore(layer, value) for layer, value in enumerate(values))
    return LayerEffectiveness(RISKY, OURS.name, "likelihood", scores)


def report(method: str = "effects") -> TransferReport:
    layers = tuple(LayerFit(layer, 0.5 - layer / 4, {"gain": 0.25 * layer, "correlation": 0.9}) for layer in (0, 1))
    return TransferReport(RISKY, OURS, THEIRS, method, "gain", "ratio", 1, 0, layers, Coverage(0.5, 0.1, 0.5), "effects", 40)


def diagnosis() -> Diagnosis:
    arms = {fixed: (point(-1, 50 - (20 if "basis" in fixed else 1)), point(1, 50 + (20 if "basis" in fixed else 1)))
            for fixed in subsets()}  # fmt: skip
    native = (point(-1, 30), point(1, 70))
    return Diagnosis(RISKY, OURS.name, "b", "j", ("one", "two"), 1, (-1, 1), point(0, 50), native, arms, {}, {})


def dose() -> DoseResponse:
    return DoseResponse(RISKY, RISKY, OURS.name, "grammar", (1,), "all", (point(-1, 20), point(1, 80)))


def evaluation() -> Evaluation:
    curve = Curve("random 1", (point(1, 52),))
    other = Curve("other", (point(0, 40), point(1, 41)))
    controls = Controls(point(0, 50), (curve,), Curve("other", (point(1, 51),)), other, point(0, 95), point(0, 5))
    return Evaluation(RISKY, RISKY, OURS.name, "j", (1,), "all", ("one", "two"), 1, (point(1, 80),), controls)


RESULTS = {
    "vector": (vector(), 3),
    "effectiveness": (effectiveness(0.5, None, 1.0), 4),
    "effectiveness without a score": (effectiveness(None, None), 3),
    "transfer": (report(), 3),
    "diagnosis": (diagnosis(), 2 + len(CAUSES) + 1),
    "dose": (dose(), 3),
    "evaluation": (evaluation(), 3),
    "plan": (LayerPlan({1: 0.5, 2: 0.25}, 0.5), 3),
}


@pytest.mark.parametrize(("result", "rows"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_shown_as_a_table_whose_texts_are_text_in_the_colours_of_the_theme(result: Any, rows: int) -> None:
    bundle = displayed(result)
    html = bundle["text/html"]
    assert len(cells(html)) == rows
    assert len({len(row) for row in cells(html)}) == 1
    assert RISKY not in html
    assert "<i>ours" not in html
    assert "sil&amp;ly" in html or isinstance(result, LayerPlan)
    assert not re.search(r"#[0-9a-fA-F]{3}|rgb|(?<![\w-])color:|background: (?!currentColor)|<script|<style", html)
    assert bundle["text/plain"]
    assert "<table" not in bundle["text/plain"]


def test_a_vector_has_a_row_a_layer_and_a_dash_for_what_is_not_known() -> None:
    head, first, second = cells(displayed(vector())["text/html"])
    assert head == ["layer", "norm", "norm / mean resid", "resid_norm"]
    assert first == ["0", "4", "0.5", "8"]
    assert second == ["1", "4", "–", "–"]


def test_the_best_layer_is_in_bold_and_has_the_longest_bar() -> None:
    html = displayed(effectiveness(0.5, None, 1.0, -2.0))["text/html"]
    assert [row[:2] for row in cells(html)[1:]] == [
        ["0", "0.5"], ["1", "–"], ["<strong>2</strong>", "<strong>1</strong>"], ["3", "-2"],
    ]  # fmt: skip
    assert re.findall(r"width: (\d+)px", html) == ["60", "0", "120", "0"]
    assert "layer 2: 1 by" in html


def test_a_transfer_shows_its_warnings_and_its_layer() -> None:
    html = displayed(report("naive"))["text/html"]
    assert "Warning: entries were only cut or padded" in html
    assert "<strong>0</strong>" in html


def test_a_diagnosis_shows_the_verdict_and_what_each_fix_recovers() -> None:
    html = displayed(diagnosis())["text/html"]
    assert "Verdict: basis" in html
    assert [row[0] for row in cells(html)[1:]] == ["nothing", *CAUSES, "all three"]
    assert [row[-1] for row in cells(html)[1:]] == ["", "excluded", "present", "excluded", ""]


def test_a_table_of_nothing_and_bars_of_nothing_are_drawn() -> None:
    assert len(cells(html_table("none", {"layer": []}))) == 1
    assert re.findall(r"width: (\d+)px", html_table("none", {"score": [0.0, None, "text"]}, bars="score")) == ["0", "0", "0"]
