"""Alignments on exact twins, whose rotation and inserted blocks are known: both are found from unlabelled texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import pytest
import torch

from persona_interp.alignment.layer_map import layer_map
from persona_interp.alignment.procrustes import Procrustes
from persona_interp.models.registry import load_model
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.organisms.twins import Twin, TwinRecipe, make_twin
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.correspondence import correspondence
from persona_interp.transfers.reading import read_rows

Anchored: TypeAlias = Callable[[str], tuple[Twin, AnchorRows, AnchorRows]]
RECIPES = {
    "turned": TwinRecipe(rotation_seed=3),
    "turned, scaled and deeper": TwinRecipe(rotation_seed=4, scale=7.0, inserted=(0, 2, 2, 5, 6)),
    "deeper": TwinRecipe(inserted=(0, 0, 1, 4)),
}
TURNED = [name for name, recipe in RECIPES.items() if recipe.rotation_seed is not None]


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> Anchored:
    """Rows of the original and of each twin, of the same 300 texts."""
    folder = tmp_path_factory.mktemp("rows")
    model = load_model("organism-llama")

    @cache
    def of(name: str) -> tuple[Twin, AnchorRows, AnchorRows]:
        twin = make_twin(model, RECIPES[name])
        both = (model, load_model(twin.hf_model, tokenizer=twin.tokenizer))
        own, other = (read_rows(each, organism_anchors(300), kinds=("states",), folder=folder) for each in both)
        return twin, own, other

    return of


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("layer", [0, 2, 5])
def test_procrustes_finds_the_rotation_on_what_the_texts_span(anchored: Anchored, name: str, layer: int) -> None:
    """The subspace: the principal directions that carry the texts' variance, but for a millionth of the largest."""
    twin, own, other = anchored(name)
    states = own.rows("states", layer)
    fitted = Procrustes().fit(states, other.rows("states", twin.layer_of(layer)))
    _, values, axes = torch.linalg.svd(states - states.mean(dim=0), full_matrices=False)
    span = axes[values.square() > 1e-6 * values[0].square()]
    assert len(span) > 20
    drawn = torch.randn(50, len(span), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) @ span
    directions = torch.cat([span, drawn])
    truth = torch.stack([twin.expected(direction, layer) for direction in directions])
    cosines = torch.cosine_similarity(fitted.transform_directions(directions), truth, dim=1)
    assert float(cosines.min()) > 0.999
    lengths = fitted.transform_directions(directions).norm(dim=1) / directions.norm(dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, twin.recipe.scale), rtol=1e-3)
    assert float(torch.cosine_similarity(directions, truth, dim=1).abs().mean()) < 0.3, "the identity would not do"


@pytest.mark.parametrize("how", ["best", "monotone"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_layer_map_steps_over_the_inserted_blocks(anchored: Anchored, name: str, how: str) -> None:
    """An identity block's output is its predecessor's, so a block and the identity blocks right behind it are one choice."""
    twin, own, other = anchored(name)
    similarity = correspondence(own, other, "cka")
    inserted = set(twin.identity_blocks)
    for layer, chosen in enumerate(layer_map(similarity, how)):
        equal = {twin.layer_of(layer)}
        while max(equal) + 1 in inserted:
            equal.add(max(equal) + 1)
        assert chosen in equal
        assert torch.equal(other.rows("states", chosen), other.rows("states", twin.layer_of(layer)))
        ties = {place for place, value in enumerate(similarity[layer].tolist()) if value > float(similarity[layer].max()) - 1e-6}
        assert ties == equal, "only equal residuals tie"
