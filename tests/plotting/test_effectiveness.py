"""Layer scores are drawn as they are, in their own unit, with their intervals, and the best one is marked."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.effectiveness import METHODS, LayerEffectiveness, LayerScore
from persona_interp.plotting.effectiveness import UNITS, effectiveness_figure


def found(*scores: LayerScore, method: str = "sweep", model: str = "tiny") -> LayerEffectiveness:
    return LayerEffectiveness("silly", model, method, scores)


SWEEP = found(
    LayerScore(4, 30.0, 25.0, 41.0, 2.5, 0.4, 12.0, (-2.5, 5.0)), LayerScore(1, 10.0), LayerScore(2, None, usable=(0.0, 0.0))
)
GEOMETRY = found(LayerScore(1, 0.9), LayerScore(4, 0.7), method="geometry")


def test_scores_intervals_and_gaps_are_drawn_in_the_order_of_the_layers() -> None:
    curve, best = effectiveness_figure(SWEEP).data
    assert list(curve.x) == [1, 2, 4]
    assert list(curve.y) == [10.0, None, 30.0]
    assert list(curve.error_y.array) == [None, None, 11.0]
    assert list(curve.error_y.arrayminus) == [None, None, 5.0]
    assert curve.connectgaps is False
    assert (list(best.x), list(best.y), best.marker.symbol) == ([4], [30.0], "star")


def test_what_a_dose_does_on_other_questions_is_drawn_beside_the_score_it_was_picked_by() -> None:
    picked = found(LayerScore(1, 60.0, 20.0, 44.0, 0.5, held_out=32.0), LayerScore(2, 10.0, 4.0, 6.0, 0.5, held_out=5.0))
    curve, held, best = effectiveness_figure(picked).data
    assert (list(curve.y), list(curve.error_y.array)) == ([60.0, 10.0], [None, None])
    assert (list(held.y), list(held.error_y.array), list(held.error_y.arrayminus)) == ([32.0, 5.0], [12.0, 1.0], [12.0, 1.0])
    assert (best.name, list(best.y)) == ("best layer by sweep", [60.0])
    assert "score 60.000<br>on other questions 32.000 [20.000, 44.000]" in curve.customdata[0]
    assert "60 (32 [20, 44] on questions that its dose was not picked on)" in picked.reason()


def test_hover_says_at_which_dose_and_at_what_cost() -> None:
    texts = effectiveness_figure(SWEEP).data[0].customdata
    assert "score 30.000 [25.000, 41.000]" in texts[2]
    assert "at coefficient +2.5 (0.40 of the mean residual norm)" in texts[2]
    assert "costs 12.0 points of coherence" in texts[2]
    assert "coherent from -2.5 to 5" in texts[2]
    assert texts[0] == "<b>layer 1</b><br>score 10.000"
    assert "score –" in texts[1]


def test_several_methods_have_a_panel_each_with_the_unit_of_each() -> None:
    figure = effectiveness_figure([SWEEP, GEOMETRY])
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == [UNITS["sweep"], UNITS["geometry"]]
    assert {axis.rangemode for axis in figure.select_yaxes()} == {"tozero"}  # small differences look small
    shown = [annotation.text.replace("<br>", " ") for annotation in figure.layout.annotations]
    assert shown == [f"{METHODS['sweep']} (best: layer 4)", f"{METHODS['geometry']} (best: layer 1)"]
    curves = [trace for trace in figure.data if trace.name in METHODS]
    assert len({(trace.line.dash, trace.line.color) for trace in curves}) == 2  # geometry is not to be taken for behaviour
    assert set(UNITS) == set(METHODS)


def test_without_a_score_nothing_is_starred() -> None:
    figure = effectiveness_figure(found(LayerScore(0, None)))
    assert len(figure.data) == 1
    assert "no layer has a score" in figure.layout.annotations[0].text


def test_layers_of_different_models_are_not_drawn_together() -> None:
    with pytest.raises(InvalidInputError, match="silly in other, silly in tiny"):
        effectiveness_figure([SWEEP, found(LayerScore(0, 1.0), model="other")])
    with pytest.raises(InvalidInputError, match="was given nothing"):
        effectiveness_figure([])
