"""The page of an evaluation: figure and sections of the same object, offline, with texts shown as they are."""

from __future__ import annotations

import html
import re
from pathlib import Path

from persona_interp.measure.evaluation import Controls, Curve, Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.measure.report import markdown, sections
from persona_interp.measure.verdict import verdict
from persona_interp.plotting.evaluation_report import save_report


def point(coefficient: float, trait: float | None = None) -> DosePoint:
    scores = (None, None) if trait is None else (trait, trait + 4)
    return DosePoint(coefficient, abs(coefficient), scores, (80.0, 90.0), (f"<script>{coefficient:g}</script>", "plain"))


def evaluated() -> Evaluation:
    def curve(name: str, *trait: float | None) -> Curve:
        return Curve(name, tuple(point(c, score) for c, score in zip((-1.0, 1.0, 2.0), trait, strict=True)))

    controls = Controls(
        baseline=point(0, 20),
        random=(curve("random 1", 19, 21, 22), curve("random 2", 22, 20, None)),
        other_vector=curve("honest", 18, 23, 20),
        other_trait=Curve("honest", (point(0, 90), *curve("", 88, 91, 85).points)),
        prompted=point(0, 96),
        prompted_against=point(0, None),
    )
    results = curve("", 5, 55, None).points
    return Evaluation("silly", "silly", "tiny", "length", (3,), "all", ("What & why?", "How?"), 1, results, controls, {"seed": 4})


def test_the_page_holds_the_figure_and_every_section(tmp_path: Path) -> None:
    found = evaluated()
    page = save_report(tmp_path / "report.html", found).read_text(encoding="utf-8")
    for section in sections(found):
        assert f"<h2>{section.title}</h2>" in page
        for row in section.rows:
            assert all(f"<td>{html.escape(cell)}</td>" in page for cell in row)
    assert html.escape(verdict(found)) in page
    assert page.count('id="figure-0"') == 1
    assert not re.search(r'<script[^>]+src="http', page)  # plotly's script is inside


def test_what_a_model_wrote_is_text_and_not_markup(tmp_path: Path) -> None:
    page = save_report(tmp_path / "report.html", evaluated()).read_text(encoding="utf-8")
    assert "&lt;script&gt;1&lt;/script&gt;" in page
    assert "<script>1</script>" not in page
    assert "What &amp; why?" in page
    assert "<script>" not in markdown(evaluated())


def test_a_coefficient_without_a_score_is_a_dash_in_both(tmp_path: Path) -> None:
    page = save_report(tmp_path / "report.html", evaluated()).read_text(encoding="utf-8")
    assert "<tr><td>+2</td><td>2.00</td><td>–</td>" in page
    assert "| +2 | 2.00 | – |" in markdown(evaluated())
