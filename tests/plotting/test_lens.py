"""The bars are the tokens at both ends, beside the control's of the same ranks."""

from __future__ import annotations

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.modulation.token_lens import TokenShift
from persona_interp.plotting.lens import lens_figure

TEXTS = {0: " <b>", 1: "one", 3: " two", 4: "three", 5: "four"}  # 2 is a special token: it spells nothing


def shift(*logits: float) -> TokenShift:
    return TokenShift(torch.tensor(logits, dtype=torch.float32), torch.full((6,), 1 / 6), "lens")


SHIFTS = {2: shift(5, 1, 99, 0, -3, -1), 7: shift(-5, 1, -99, 2, 3, -1)}
CONTROL = {2: shift(0.1, 0.2, 0.0, -0.2, 0.3, 0.0), 7: shift(0.5, 0.4, 0.0, 0.3, 0.2, 0.1)}


def test_each_layer_shows_what_rises_most_then_what_falls_most_and_special_tokens_never() -> None:
    figure = lens_figure(SHIFTS, TEXTS, title="silly", k=2, layer=2)
    (slider,) = figure.layout.sliders
    assert [list(bars.x) for bars in figure.data] == [[5, 1, -1, -3], [3, 2, -1, -5]]
    names = ["&#x27; &lt;b&gt;&#x27;", "&#x27;one&#x27;", "&#x27;four&#x27;", "&#x27;three&#x27;"]
    assert list(slider.steps[0].args[1]["yaxis.ticktext"]) == names == list(figure.layout.yaxis.ticktext)
    assert [bool(bars.visible) for bars in figure.data] == [True, False]
    assert "layer 7" in slider.steps[1].args[1]["title.text"]


def test_the_control_is_drawn_at_the_same_ranks() -> None:
    figure = lens_figure(SHIFTS, TEXTS, title="silly", k=2, control=CONTROL)
    assert [trace.type for trace in figure.data] == ["bar", "scatter"] * 2
    assert list(figure.data[1].x) == pytest.approx([0.3, 0.2, 0.0, -0.2])
    assert "same rank: &#x27;three&#x27;" in figure.data[1].customdata[0]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="6 tokens were to be drawn, and 5 spell something"):
        lens_figure(SHIFTS, TEXTS, title="silly", k=3)
    with pytest.raises(InvalidInputError, match=r"the control was not read at layers \[7\]"):
        lens_figure(SHIFTS, TEXTS, title="silly", k=2, control={2: CONTROL[2]})
    with pytest.raises(InvalidInputError, match="layer 3 was not read: there are layers 2, 7"):
        lens_figure(SHIFTS, TEXTS, title="silly", k=2, layer=3)
    with pytest.raises(InvalidInputError, match="there are layers none"):
        lens_figure({}, TEXTS, title="silly", k=2)
