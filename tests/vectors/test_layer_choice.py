"""A layer where nobody measured one: from geometry, and said to be."""

from __future__ import annotations

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("org/Model-A", None, "aaaa", n_layers=11, d_model=2)


def make(layers: tuple[int, ...], **statistics: tuple[float | None, ...]) -> PersonaVector:
    return PersonaVector(torch.ones(len(layers), 2), layers, "silly", MODEL, statistics=statistics)


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_among_layers_that_separate_as_well_the_largest_relative_norm_wins(factor: float) -> None:
    vector = make((1, 4, 6, 9), auroc=(0.99, 0.985, 0.6, None), resid_norm=(4.0, 2.0, 0.1, 0.1))
    choice = choose_layer(vector * factor)
    assert choice.layer == 4
    assert "held-out AUROC 0.98" in choice.reason
    assert "geometry, not behaviour" in choice.reason


@pytest.mark.parametrize("statistics", [{}, {"auroc": (0.9, 0.9)}, {"resid_norm": (1.0, 1.0)}])
def test_without_statistics_it_is_a_depth_and_says_that_nothing_was_measured(statistics: dict[str, tuple[float, ...]]) -> None:
    choice = choose_layer(make((2, 5), **statistics))
    assert choice.layer == 5  # of 11 layers, 6 is at 60 %
    assert "Nothing was measured" in choice.reason


@pytest.mark.parametrize(
    "statistics",
    [
        {"effectiveness": (0.9, 0.2, 0.5)},
        {"auroc": (0.99, 0.6, 0.9), "resid_norm": (1.0, 1.0, 1.0)},
        {},
    ],
)
def test_no_layer_is_chosen_where_the_model_cannot_be_steered(statistics: dict[str, tuple[float, ...]]) -> None:
    vector = make((0, 1, 2), **statistics)
    if statistics:
        assert choose_layer(vector).layer == 0
    assert choose_layer(vector, first_layer=1).layer == 2
    with pytest.raises(InvalidInputError, match="has layers 0 only, and this model can be steered from layer 1 on"):
        choose_layer(vector.select([0]), first_layer=1)
