"""Bars are effects, the best is dark, and each way of choosing stands above the layer it chose."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.palette import GREY, PALE
from persona_interp.studies.layers import Choice, LayerBench, PlanResult
from persona_interp.studies.plotting.layer_choices import layer_choices_figure

CHOSEN = {"sweep": 1, "screened-likelihood": 1, "gradient": 0, "geometry": 2, "lens": 2, "fixed depth": 1, "fixed layer": 0}
EFFECTS = {0: 20.0, 1: 80.0, 2: 5.0}
BENCH = LayerBench(
    "organism-a", "silly", EFFECTS,
    tuple(Choice(m, at, EFFECTS[at], 80 - EFFECTS[at], None, None, 10, 0.1) for m, at in CHOSEN.items()),
    PlanResult((1,), 80.0, 99.0, 0.0, -1.0, 1.0),
)  # fmt: skip


def test_bars_are_effects_and_the_best_is_dark() -> None:
    bars = layer_choices_figure([BENCH]).data[0]
    assert list(bars.y) == [20.0, 80.0, 5.0]
    assert list(bars.marker.color) == [PALE, GREY, PALE]


def test_markers_stand_above_the_bar_they_chose_and_never_on_each_other() -> None:
    markers = layer_choices_figure([BENCH]).data[1:]
    places = [(marker.x[0], marker.y[0]) for marker in markers]
    assert len(places) == len(set(places)) == 6
    assert [x for x, _ in places] == [1, 1, 0, 2, 2, 1]
    assert all(y > EFFECTS[x] for x, y in places)
    assert "75 short of the best" in markers[3].customdata[0]


def test_every_way_is_in_the_legend_once() -> None:
    other = LayerBench("organism-b", "silly", EFFECTS, BENCH.choices, BENCH.plan)
    names = [trace.name for trace in layer_choices_figure([BENCH, other]).data if trace.showlegend]
    assert len(names) == len(set(names)) == 6


def test_no_bench_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no bench"):
        layer_choices_figure([])
