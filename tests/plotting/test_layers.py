"""The layer figure shows what the vector records, and a gap where it records nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.models.identity import ModelIdentity
from persona_interp.plotting.html import save_html
from persona_interp.plotting.layers import layer_figure
from persona_interp.plotting.palette import COLOURS
from persona_interp.vectors.persona_vector import PersonaVector


def a_vector(**statistics: tuple[float | None, ...]) -> PersonaVector:
    return PersonaVector(
        torch.arange(1.0, 13.0).reshape(3, 4),
        (0, 1, 3),
        "silly",
        ModelIdentity("tiny", None, "f", n_layers=4, d_model=4),
        statistics=statistics,
    )


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_norms_are_shown_at_the_layers_the_vector_has() -> None:
    vector = a_vector()
    (trace,) = layer_figure(vector).data
    assert list(trace.x) == [0, 1, 3]
    assert list(trace.y) == pytest.approx(vector.norms)


def test_missing_statistics_are_gaps_not_zeros() -> None:
    shown = traces(layer_figure(a_vector(cohens_d=(1.0, None, 2.0), split_half=(None, None, None))))
    assert list(shown["Cohen's d"].y) == [1.0, None, 2.0]
    assert shown["Cohen's d"].connectgaps is False
    assert "cosine" not in shown


def test_every_axis_says_what_it_counts_in() -> None:
    figure = layer_figure(a_vector(cohens_d=(1.0, 1.5, 2.0), split_half=(0.9, -0.2, 1.0), resid_norm=(9.0, 9.0, 9.0)))
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == ["norm<br>(activation units)", "Cohen's d<br>(standard deviations)", "cosine<br>(no unit)"]
    assert len(figure.data) == 4
    assert figure.layout.yaxis3.range[0] == -0.2


def test_lines_differ_in_more_than_colour() -> None:
    figure = layer_figure(a_vector(cohens_d=(1.0, 1.5, 2.0), split_half=(0.9, 1.0, 1.0), resid_norm=(9.0, 9.0, 9.0)))
    assert len({trace.marker.symbol for trace in figure.data}) == len(figure.data)
    assert {trace.line.color for trace in figure.data} <= {*COLOURS, "#767676"}


def test_a_page_opens_offline_and_holds_plotly_once(tmp_path: Path) -> None:
    figure = layer_figure(a_vector())
    path = save_html(tmp_path / "page.html", [figure, figure], title="a < b", note="measured on <tiny>")
    text = path.read_text(encoding="utf-8")
    assert "a &lt; b" in text
    assert "measured on &lt;tiny&gt;" in text
    assert text.count('id="figure-0"') == text.count('id="figure-1"') == 1
    assert "<script src=" not in text
    one = save_html(tmp_path / "one.html", figure, title="one").stat().st_size
    assert 1e6 < one < path.stat().st_size < 1.2 * one
