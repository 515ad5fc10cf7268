"""Bars of tokens, a layer at a time, from the most suppressed up to the most promoted, beside what chance does."""

from __future__ import annotations

from typing import Any

import pytest

from persona_interp.attribution.vector_lens import LayerTokens, TokenLogit, VectorLens
from persona_interp.errors import InvalidInputError
from persona_interp.plotting import vector_lens_figure

UP, DOWN = (TokenLogit(3, " <b>", 2.0), TokenLogit(4, "x", 1.0)), (TokenLogit(5, "y", -3.0), TokenLogit(6, "z", -1.0))
ONE = LayerTokens(1, UP, DOWN, (0.5, -0.4))
LENS = VectorLens("silly", "tiny", "lens", (ONE, LayerTokens(6, UP[:1], DOWN[:1], (0.1, -0.2))))
NAMES = ["&#x27;y&#x27;", "&#x27;z&#x27;", "&#x27;x&#x27;", "&#x27; &lt;b&gt;&#x27;"]


def test_tokens_are_bars_from_the_most_promoted_down_and_chance_is_drawn() -> None:
    figure: Any = vector_lens_figure(VectorLens("silly", "tiny", "lens", (ONE,)), 1)
    (bars,) = figure.data
    assert list(bars.x) == [-3.0, -1.0, 1.0, 2.0]
    assert list(figure.layout.yaxis.ticktext) == NAMES
    assert [line.x0 for line in figure.layout.shapes] == [0.5, -0.4]
    assert not figure.layout.sliders


def test_each_step_of_the_slider_shows_the_tokens_and_the_chance_of_its_layer() -> None:
    figure: Any = vector_lens_figure(LENS, 1)
    (slider,) = figure.layout.sliders
    assert [list(bars.x) for bars in figure.data] == [[-3.0, -1.0, 1.0, 2.0], [-3.0, 2.0]]
    assert [bool(bars.visible) for bars in figure.data] == [True, False]
    assert list(figure.layout.yaxis.ticktext) == NAMES
    shown, layout = slider.steps[1].args
    assert shown["visible"] == [False, True]
    assert list(layout["yaxis.ticktext"]) == [NAMES[0], NAMES[3]]
    assert [line["x0"] for line in layout["shapes"]] == [0.1, -0.2]
    assert "layer 6 of tiny" in layout["title.text"]
    assert vector_lens_figure(LENS).layout.sliders[0].active == 1


def test_a_layer_that_was_not_read_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="layer 3 was not read: there are layers 1, 6"):
        vector_lens_figure(LENS, 3)
