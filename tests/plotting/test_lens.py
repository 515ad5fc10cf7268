"""The bars are the tokens at both ends, beside how far a random direction gets."""

from __future__ import annotations

import pytest

from persona_interp.attribution.vector_lens import LayerTokens, TokenLogit, VectorLens
from persona_interp.errors import InvalidInputError
from persona_interp.plotting.lens import lens_figure

FOUND = VectorLens(
    "silly",
    "tiny",
    "lens",
    (
        LayerTokens(2, (TokenLogit(0, " <b>", 5.0), TokenLogit(1, "one", 1.0)), (TokenLogit(4, "three", -3.0),), (0.5, -0.4)),
        LayerTokens(7, (TokenLogit(5, "four", 3.0),), (TokenLogit(0, " <b>", -5.0), TokenLogit(4, "three", -2.0)), (0.3, -0.2)),
    ),
)


def test_each_layer_shows_what_rises_most_then_what_falls_most() -> None:
    figure = lens_figure(FOUND, layer=2)
    (slider,) = figure.layout.sliders
    bars = figure.data[::2]
    assert [list(each.x) for each in bars] == [[5, 1, -3], [3, -2, -5]]
    names = ["&#x27; &lt;b&gt;&#x27;", "&#x27;one&#x27;", "&#x27;three&#x27;"]
    assert list(slider.steps[0].args[1]["yaxis.ticktext"]) == names == list(figure.layout.yaxis.ticktext)
    assert [bool(trace.visible) for trace in figure.data] == [True, True, False, False]
    assert "layer 7" in slider.steps[1].args[1]["title.text"]


def test_chance_is_drawn_on_both_sides_of_every_layer() -> None:
    figure = lens_figure(FOUND)
    assert [{x for x in trace.x if x is not None} for trace in figure.data[1::2]] == [{0.5, -0.4}, {0.3, -0.2}]


def test_a_layer_that_was_not_read_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="layer 3 was not read: there are layers 2, 7"):
        lens_figure(FOUND, layer=3)
