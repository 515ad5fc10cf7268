"""The map of layers: every pair's similarity, and the layers chosen on top."""

from __future__ import annotations

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.plotting import similarity_figure


def test_cells_are_similarities_and_circles_the_layers_chosen() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.4, 0.8]])
    figure = similarity_figure(similarity, "ours", "theirs", (1, 2))
    heat, path = figure.data
    assert [list(row) for row in heat.z] == [pytest.approx(row) for row in similarity.tolist()]
    assert (list(path.x), list(path.y)) == ([1, 2], [0, 1])
    assert "ours" in figure.layout.yaxis.title.text
    assert "theirs" in figure.layout.xaxis.title.text
    assert len(similarity_figure(similarity, "ours", "theirs").data) == 1
    with pytest.raises(InvalidInputError, match="path has 1 layers, the source 2"):
        similarity_figure(similarity, "ours", "theirs", (1,))
