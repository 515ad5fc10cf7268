"""Answers are shown from the midpoint of both kinds, in the spread of one kind, at every layer."""

from __future__ import annotations

from statistics import fmean, pvariance

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.separation import separation_figure
from persona_interp.vectors.pair_projections import PairProjections

FOUND = PairProjections(
    "silly", "tiny", "response_avg", (0, 7), ((3.0, 5.0), (100.0, 300.0)), ((-1.0, 1.0), (200.0, 400.0)), True
)


def test_each_layer_has_its_own_midpoint_and_spread() -> None:
    negative, positive = separation_figure(FOUND).data
    assert list(positive.x) == [0, 0, 7, 7]
    low, high = negative.y[:2], positive.y[:2]
    assert fmean(low) == pytest.approx(-fmean(high))
    assert fmean(high) - fmean(low) == pytest.approx(4 / 2**0.5, abs=1e-3)
    assert pvariance(high) == pytest.approx(0.5, abs=1e-3)
    assert fmean(positive.y[2:]) < fmean(negative.y[2:])


def test_the_area_of_each_layer_is_written_above_it() -> None:
    texts = {each.x: each.text for each in separation_figure(FOUND).layout.annotations}
    assert texts[0] == "1.00"
    assert texts[7] == "0.25"


def test_what_was_not_held_out_is_said() -> None:
    own = PairProjections("silly", "tiny", "response_avg", (0,), ((1.0, 2.0),), ((0.0, 0.5),), False)
    assert "NOT held out" in separation_figure(own).layout.title.text


def test_one_answer_has_no_spread_and_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="two answers of each kind"):
        separation_figure(PairProjections("silly", "tiny", "response_avg", (0,), ((1.0,),), ((0.0, 1.0),), True))


def test_projections_read_back_to_six_digits() -> None:
    again = PairProjections.from_json(FOUND.to_json())
    assert again == FOUND
