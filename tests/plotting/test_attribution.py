"""Figures of an attribution and of its check show the numbers they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona_interp.attribution.attribution import Attribution, Contribution
from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import Component
from persona_interp.attribution.vector_lens import LayerTokens, TokenLogit, VectorLens
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting import ablation_figure, attribution_figure
from persona_interp.plotting.attribution import save_attribution_report

SHARES = {
    "embedding": 0.05,
    "L0H0": -0.2,
    "L0H1": 0.1,
    "L0.bias": 0.0,
    "L0.mlp": 0.3,
    "L1H0": 0.6,
    "L1.bias": 0.0,
    "L1.mlp": 0.15,
}


def contribution(name: str, share: float) -> Contribution:
    difference = Estimate(20 * share, 20 * share - 1, 20 * share + 1, 6)
    return Contribution(Component.named(name), 20 * share + 3, 3.0, difference, Estimate(share, share - 0.05, share + 0.05, 6))


FOUND = Attribution(
    "silly", "tiny", 1, "response_avg", 6, 3, "grammar", Estimate(20.0, 19.0, 21.0, 6),
    tuple(contribution(name, share) for name, share in SHARES.items()), 1e-8,
)  # fmt: skip
HEADS = (Component("head", 1, 0),)


def point(*scores: float | None, coherence: float = 90.0) -> DosePoint:
    return DosePoint(0.0, None, scores, (coherence,) * len(scores), ("an <answer>",))


CHECK = AblationCheck(
    "silly", "tiny", "grammar", 1, point(90, 100), point(0, 10), AblationArm("top", HEADS, point(10, 30, coherence=80.0)),
    AblationArm("placebo", HEADS, point(88, 96)), tuple(AblationArm(f"random {n}", HEADS, point(80, None)) for n in (1, 2)),
    ("a", "b"), 1,
)  # fmt: skip
UP, DOWN = (TokenLogit(3, " <b>", 2.0), TokenLogit(4, "x", 1.0)), (TokenLogit(5, "y", -3.0), TokenLogit(6, "z", -1.0))
LENS = VectorLens("silly", "tiny", "lens", (LayerTokens(1, UP, DOWN, (0.5, -0.4)),))


def test_the_map_has_a_row_a_layer_a_column_a_head_and_the_mlp_last() -> None:
    drawn: Any = attribution_figure(FOUND)
    (cells,) = drawn.data
    assert list(cells.x) == ["H0", "H1", "bias", "MLP"]
    assert list(cells.y) == ["0", "1"]
    assert [list(row) for row in cells.z] == [[-0.2, 0.1, 0.0, 0.3], [0.6, None, 0.0, 0.15]]
    assert list(cells.text[1]) == ["0.60", "", "0.00", "0.15"]
    assert (cells.zmin, cells.zmax) == (-0.6, 0.6)
    assert cells.colorscale[1] == (0.5, "#FFFFFF"), "white is 0"


def test_hover_has_the_interval_and_both_signs_and_the_title_what_is_not_in_the_map() -> None:
    figure: Any = attribution_figure(FOUND)
    text = figure.data[0].customdata[1][0]
    assert text.split("<br>") == [
        "<b>L1H0</b>",
        "share 0.600 [0.550, 0.650]",
        "difference 12.00 [11.00, 13.00] activation units",
        "positive 15.00, negative 3.00",
    ]
    assert figure.data[0].customdata[1][1] == ""
    title = figure.layout.title.text.replace("<br>", " ")
    assert "heads 0.50, MLPs 0.45, embedding 0.05" in title
    assert "layer 1 of tiny" in title


def test_many_heads_have_no_numbers_in_their_cells() -> None:
    many = tuple(contribution(f"L0H{head}", 0.01) for head in range(32))
    wide = Attribution("t", "m", 0, "response_avg", 1, 1, None, FOUND.whole, (FOUND.contributions[0], *many), 0.0)
    drawn: Any = attribution_figure(wide)
    (cells,) = drawn.data
    assert set(cells.text[0]) == {""}
    assert len(cells.x) == 33


def test_the_check_shows_every_arm_with_its_interval_and_coherence() -> None:
    figure: Any = ablation_figure(CHECK)
    bars, marks = figure.data
    assert [name.replace("<br>", " ") for name in bars.x] == [
        "nothing ablated", "top 1", "top 1, placebo", "random 1", "random 2", "asked against",
    ]  # fmt: skip
    assert list(bars.y) == [95, 20, 92, 80, 80, 5]
    assert bars.error_y.array[1] == pytest.approx(10)
    assert list(marks.y) == [90, 80, 90, 90, 90, 90]
    assert "L1H0" in bars.customdata[1]
    assert "an &lt;answer&gt;" in bars.customdata[1]
    assert "1 without a score" in bars.customdata[3]
    assert "points below random sets" in figure.layout.title.text.replace("<br>", " ")


def test_the_report_is_one_page_that_says_what_was_found(tmp_path: Path) -> None:
    page = save_attribution_report(tmp_path / "a.html", FOUND, lens=LENS, check=CHECK).read_text(encoding="utf-8")
    assert page.count('id="figure-') == 3
    assert "ablating L1H0 lowers silly by 75" in page
    assert "they sum to 1" in page.lower()
    alone = save_attribution_report(tmp_path / "b.html", FOUND).read_text(encoding="utf-8")
    assert alone.count('id="figure-') == 1
