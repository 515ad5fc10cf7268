"""Norms of several models: each vector's own values, gaps where none were recorded, and massive dimensions counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.plotting.norms import norms_figure
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector


def a_vector(name: str = "organism-a", **other: Any) -> PersonaVector:
    identity = ModelIdentity(name, None, name, n_layers=2, d_model=4)
    return PersonaVector(torch.ones(2, 4), (0, 1), other.pop("trait", "silly"), identity, **other)


def test_residual_norms_and_ratios_are_the_vector_s_own() -> None:
    norms, ratios = norms_figure([a_vector(statistics={"resid_norm": (4.0, None)})]).data
    assert norms.name == "a"
    assert list(norms.y) == [4.0, None]
    assert list(ratios.y) == [pytest.approx(0.5), None]


def test_a_vector_without_norms_leaves_gaps() -> None:
    norms, _ = norms_figure([a_vector()]).data
    assert list(norms.y) == [None, None]


def test_massive_dimensions_are_counted_in_the_title() -> None:
    massive = (MassiveDimension(0, 3, 9.0, 150.0, 0.1), MassiveDimension(1, 3, 9.0, 5.0, 0.4))
    assert "no massive dimension" in norms_figure([a_vector()]).layout.title.text
    title = norms_figure([a_vector(massive=massive)]).layout.title.text
    assert title.endswith("silly: 2 massive dimensions")


def test_vectors_of_two_traits_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="silly, honest"):
        norms_figure([a_vector(), a_vector(trait="honest")])
