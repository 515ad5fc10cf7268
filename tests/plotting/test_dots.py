"""Dots stand where their estimates are, bars reach the ends of intervals, and what is not defined leaves its row empty."""

from __future__ import annotations

from itertools import pairwise

import pytest

from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.dots import dots, lanes, row_axis, shared_range
from persona_interp.plotting.intervals import interval_bars

KNOWN, ALONE, NONE = Estimate(0.5, 0.2, 0.9, 5), Estimate(1.0, None, None, 1), Estimate(None, None, None, 0)


def test_a_dot_a_row_with_its_interval_and_a_gap_where_nothing_is_known() -> None:
    drawn = dots([KNOWN, ALONE, NONE], [0, 1, 2], "a < b", ("#000000", "circle"), texts=["x", "<y>", "z"], lane=0.25)
    assert list(drawn.x) == [0.5, 1.0, None]
    assert list(drawn.y) == [0.25, 1.25, 2.25]
    assert list(drawn.error_x.array) == [pytest.approx(0.4), None, None]
    assert list(drawn.error_x.arrayminus) == [pytest.approx(0.3), None, None]
    assert drawn.customdata[0] == "x<br>a &lt; b: 0.50 [0.20, 0.90]"
    assert drawn.customdata[1].startswith("&lt;y&gt;")


def test_bars_reach_both_ends_also_where_the_value_lies_outside() -> None:
    bars = interval_bars([Estimate(-0.5, -0.6, -0.1, 5)])
    assert bars["array"] == [pytest.approx(0.4)]
    assert bars["arrayminus"] == [pytest.approx(0.1)]


def test_lanes_are_even_symmetric_and_stay_within_the_row() -> None:
    assert lanes(1) == [0.0]
    for number in (2, 3, 8, 20):
        places = lanes(number)
        assert sum(places) == pytest.approx(0.0)
        assert max(places) <= 0.37
        assert len({round(after - before, 9) for before, after in pairwise(places)}) == 1


def test_panels_share_a_range_that_holds_every_interval_and_what_else_is_asked() -> None:
    low, high = shared_range([KNOWN, ALONE, NONE], 0.0, 2.0)
    assert low < 0.0
    assert high > 2.0


def test_the_first_row_is_at_the_top() -> None:
    axis = row_axis(["first", "second"])
    assert axis["range"] == [1.5, -0.5]
    assert axis["ticktext"] == ["first", "second"]
