"""The PyTorch side of comparisons with llama.cpp."""

from __future__ import annotations

from functools import cache

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.studies.reproduction.residual_parity import give_table_gelu


@cache
def pytorch(name: str) -> SteerableModel:
    """A shipped organism in float32; GPT-2 with the GELU of llama.cpp."""
    model = load_model(name, dtype="float32")
    give_table_gelu(model.hf_model)
    return model
