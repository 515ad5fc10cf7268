"""Exact twins: models that compute what another computes, with a known change of the residual stream."""

from persona_interp.organisms.twins.recipe import TwinRecipe
from persona_interp.organisms.twins.twin import Twin, make_twin, read_recipe, save_twin

__all__ = ["Twin", "TwinRecipe", "make_twin", "read_recipe", "save_twin"]
