"""What a Hugging Face model is called with, by the names that its own `forward` gives its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.shapes import TokenIds

CACHE_NAMES = ("cache", "past_key_values")
"""What models call their key-value cache, from transformers 5.24 on and before."""


@dataclass(frozen=True)
class ModelCall:
    """One call of a model.

    Attributes:
        ids: None where embeddings were given instead.
        n_rows: rows of the batch.
        width: columns of the call itself.
        device: of the tokens.
        mask: as given.
        position_ids: as given.
        cache: the key-value cache given.
        cached: columns that lie in it.
    """

    ids: TokenIds | None
    n_rows: int
    width: int
    device: torch.device
    mask: Any
    position_ids: Any
    cache: Any
    cached: int

    @property
    def total(self) -> int:
        """Columns up to the end of the call, cached ones included."""
        return self.cached + self.width


def read_call(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ModelCall:
    """What `module` is called with.

    Raises:
        UnsupportedError: neither ids nor embeddings, or a cache that does not say how many tokens it holds.
    """
    given = {**dict(zip(_names(type(module)), args, strict=False)), **kwargs}
    ids = given.get("input_ids")
    tokens = given.get("inputs_embeds") if ids is None else ids
    if not isinstance(tokens, Tensor):
        raise UnsupportedError(f"{type(module).__name__} was called without input_ids and inputs_embeds: give one of them")
    cache = next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)
    n_rows, width = tokens.shape[:2]
    positions = given.get("position_ids")
    return ModelCall(
        ids, n_rows, width, tokens.device, given.get("attention_mask"), positions, cache, 0 if cache is None else _length(cache)
    )


def cache_name(module: nn.Module) -> str:
    """How `module` calls the key-value cache among the arguments of its `forward` and the fields of its output.

    Raises:
        UnsupportedError: it takes none.
    """
    names = _names(type(module))
    found = next((name for name in CACHE_NAMES if name in names), None)
    if found is None:
        raise UnsupportedError(f"{type(module).__name__}.forward takes no key-value cache ({' or '.join(CACHE_NAMES)})")
    return found


def cache_of(output: Any) -> Any:
    """The key-value cache in what a model returned, None without one."""
    if isinstance(output, tuple):
        return next((part for part in output if hasattr(part, "get_seq_length")), None)
    return next((found for name in CACHE_NAMES if (found := getattr(output, name, None)) is not None), None)


@functools.cache
def _names(kind: type[nn.Module]) -> tuple[str, ...]:
    """The arguments of `forward`, without `self`; of the class, because wrappers of an instance's need not keep them."""
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def _length(cache: Any) -> int:
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    if isinstance(cache, tuple | list):
        return int(cache[0][0].shape[-2])
    raise UnsupportedError(
        f"the model was called with a {type(cache).__name__}, which does not say how many tokens it holds (continuous batching), "
        "so positions cannot be told: use generate(), or SteerableModel.generate, which batches by itself"
    )
