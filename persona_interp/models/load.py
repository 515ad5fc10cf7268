"""`load_model` for every kind of model: what PyTorch runs, and GGUF files, which llama.cpp runs."""

from __future__ import annotations

from typing import Any

from persona_interp.models.gguf_options import refuse_in_llama_cpp
from persona_interp.models.loading import LoadOptions
from persona_interp.models.registry import ModelSource, load_model, register_gguf_loader
from persona_interp.models.steerable import SteerableModel

__all__ = ["load_model"]


def _load_gguf(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """A GGUF file as a model, if no option asks for what only PyTorch can do."""
    from persona_interp.models.engines.llama_cpp.model import LlamaCppModel

    refuse_in_llama_cpp(source.location, options, tokenizer, remote)
    return LlamaCppModel(source.location, name=source.name)


register_gguf_loader(_load_gguf)
