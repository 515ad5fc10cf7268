"""The histograms hold every projection once, one layer at a time, and say whether anything was held out."""

from __future__ import annotations

from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import auroc
from persona_interp.plotting.projections import projection_figure
from persona_interp.vectors.pair_projections import PairProjections

POSITIVE = ((1.0, 2.0, 3.0), (30.0, 10.0, 20.0), (5.0, 5.0, 5.0))
NEGATIVE = ((-1.0, 0.0, 2.5), (-3.0, -2.0, -1.0), (5.0, 5.0, 5.0))


def found(*, held_out: bool = True) -> PairProjections:
    return PairProjections("silly", "tiny", "response_avg", (0, 1, 3), POSITIVE, NEGATIVE, held_out)


def shown(figure: Any, visible: list[bool]) -> list[tuple[str, list[float]]]:
    return [(trace.name, list(trace.x)) for trace, on in zip(figure.data, visible, strict=True) if on]


def test_each_step_of_the_slider_shows_the_projections_of_its_layer_alone() -> None:
    figure = projection_figure(found())
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "1", "3"]
    for row, step in enumerate(slider.steps):
        drawn, layout = step.args
        assert shown(figure, drawn["visible"]) == [
            ("3 negative answers", list(NEGATIVE[row])),
            ("3 positive answers", list(POSITIVE[row])),
        ]
        assert str(auroc(POSITIVE[row], NEGATIVE[row])) in layout["title.text"]
        assert [line["x0"] for line in layout["shapes"]] == [sum(side[row]) / 3 for side in (NEGATIVE, POSITIVE)]


def test_the_figure_opens_at_the_layer_asked_for() -> None:
    for asked, row in ((None, 1), (3, 2), (0, 0)):
        figure = projection_figure(found(), layer=asked)
        assert figure.layout.sliders[0].active == row
        assert [bool(trace.visible) for trace in figure.data] == [place // 2 == row for place in range(6)]
        assert figure.layout.title.text == figure.layout.sliders[0].steps[row].args[1]["title.text"]
    with pytest.raises(InvalidInputError, match="layer 2 was not projected: there are layers 0-1, 3"):
        projection_figure(found(), layer=2)


def test_both_kinds_share_bins_that_hold_every_value() -> None:
    figure = projection_figure(found())
    for row in range(3):
        negative, positive = figure.data[2 * row : 2 * row + 2]
        assert negative.xbins == positive.xbins
        bins, values = negative.xbins, [*POSITIVE[row], *NEGATIVE[row]]
        assert bins.start <= min(values) <= max(values) < bins.end
        assert bins.size > 0  # also where all values are one


def test_kinds_differ_in_more_than_colour_and_axes_have_units() -> None:
    figure = projection_figure(found())
    negative, positive = figure.data[:2]
    assert negative.marker.color != positive.marker.color
    assert negative.marker.pattern.shape != positive.marker.pattern.shape
    assert figure.layout.xaxis.title.text.endswith("(activation units)")
    assert figure.layout.yaxis.title.text == "answers (count)"


def test_a_figure_of_answers_along_their_own_direction_says_so() -> None:
    assert "NOT held out" in projection_figure(found(held_out=False)).layout.title.text
    assert "NOT held out" not in projection_figure(found()).layout.title.text
