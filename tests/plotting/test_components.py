"""The plane of the components shows every text once at each layer, with what it says."""

from __future__ import annotations

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.components import components_figure
from persona_interp.residuals.components import PrincipalComponents, principal_components

GROUPS = ("positive", "negative", "positive")
TEXTS = ("<b>so</b>", "very", "silly")


def found(*, compared: bool = True, k: int = 2) -> PrincipalComponents:
    seeds = torch.Generator().manual_seed(0)
    directions = torch.randn(2, 4, generator=seeds) if compared else None
    return principal_components(torch.randn(3, 2, 4, generator=seeds), (1, 6), GROUPS, TEXTS, directions=directions, k=k)


@pytest.mark.parametrize("compared", [True, False])
def test_each_step_of_the_slider_shows_the_texts_of_its_layer_and_the_direction(compared: bool) -> None:
    seen = found(compared=compared)
    figure = components_figure(seen, title="silly", layer=1)
    (slider,) = figure.layout.sliders
    for row, step in enumerate(slider.steps):
        shown = [trace for trace, on in zip(figure.data, step.args[0]["visible"], strict=True) if on]
        assert [trace.name for trace in shown] == ["positive", "negative", "the vector, seen in this plane"][: 2 + compared]
        assert list(shown[0].x) == seen.coordinates[row, [0, 2], 0].tolist()
        assert list(shown[1].y) == seen.coordinates[row, [1], 1].tolist()
        assert ("cosine" in step.args[1]["title.text"]) == compared
        assert f"layer {seen.layers[row]}" in step.args[1]["title.text"]
    assert slider.active == 0
    assert [bool(trace.visible) for trace in figure.data] == list(slider.steps[0].args[0]["visible"])


def test_the_direction_points_where_its_cosines_say_and_texts_are_text() -> None:
    seen = found()
    line = components_figure(seen, layer=6).data[5]
    assert seen.cosines is not None
    torch.testing.assert_close(line.y[1] / line.x[1], float(seen.cosines[1, 1] / seen.cosines[1, 0]))
    assert list(components_figure(seen).data[0].customdata) == ["&lt;b&gt;so&lt;/b&gt;", "silly"]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one component has no plane"):
        components_figure(found(k=1))
    with pytest.raises(InvalidInputError, match="layer 2 was not read: there are layers 1, 6"):
        components_figure(found(), layer=2)
