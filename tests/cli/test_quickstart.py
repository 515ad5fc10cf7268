"""`quickstart` does the whole method on the model that ships with the package."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.cli.quickstart import COEFFICIENTS, typical
from persona_interp.measure.dose import DosePoint, DoseResponse
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.mark.slow
def test_quickstart_shows_layers_texts_and_scores_and_writes_vector_and_figure(run: Callable, tmp_path: Path) -> None:
    started = time.process_time()
    ran = run("quickstart", "--output", tmp_path / "quick")
    assert ran.code == 0, ran.err
    assert time.process_time() - started < 240  # CPU seconds: under two minutes on two cores
    vector = PersonaVector.load(tmp_path / "quick" / "organism-qwen2_silly.json")
    assert vector.model.name == "organism-qwen2"
    dose = DoseResponse.from_json(json.loads((tmp_path / "quick" / "quickstart.json").read_text(encoding="utf-8")))
    assert [point.coefficient for point in dose.points] == list(COEFFICIENTS)
    page = (tmp_path / "quick" / "quickstart.html").read_text(encoding="utf-8")
    assert "not claims about" in page
    for text in ("AUROC", "baseline", "coherence", "silly", "Steered at layer", "nats a token"):
        assert text in " ".join(ran.out.split())
    assert max(len(line) for line in ran.out.splitlines() if line[0:1] in "│┃") == 100


def test_nothing_is_extracted_where_nothing_can_be_written(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = run("quickstart", "--output", tmp_path / "file")
    assert ran.code == 2
    assert "cannot write" in ran.err


def test_the_answer_shown_is_the_typical_one() -> None:
    points = (
        DosePoint(0.0, 0.0, (90.0, 20.0, None, 10.0), (100.0,) * 4, ("a", "b", "c")),
        DosePoint(1.0, 0.5, (90.0, 80.0, 80.0, 70.0), (100.0,) * 4, ("a", "b", "c")),
    )
    assert typical(DoseResponse("silly", "silly", "tiny", "grammar", (1,), "all", points)) == 1
