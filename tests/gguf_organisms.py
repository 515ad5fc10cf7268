"""The PyTorch side of comparisons with llama.cpp."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel


class GeluTable(torch.nn.Module):
    """GPT-2's GELU as llama.cpp computes it: read off a table whose places and entries are in half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()


def with_llama_cpp_gelu(hf_model: Any) -> Any:
    for block in getattr(getattr(hf_model, "transformer", None), "h", ()):
        block.mlp.act = GeluTable()
    return hf_model


@cache
def pytorch(name: str) -> SteerableModel:
    """A shipped organism in float32; GPT-2 with the GELU of llama.cpp."""
    model = load_model(name, dtype="float32")
    with_llama_cpp_gelu(model.hf_model)
    return model
