"""Where the weights of a model lie: in memory, or with accelerate on another device or on disk, from where it fetches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def token_device(hf_model: Any) -> torch.device:
    """Where token ids go: to the embedding; the CPU if its weights are on no device of this machine (remote)."""
    return _embedding_device(hf_model) or torch.device("cpu")


def runs_here(hf_model: Any) -> bool:
    """Whether this machine computes with the weights, in memory or offloaded; not those of a remote model."""
    return _embedding_device(hf_model) is not None


def _embedding_device(hf_model: Any) -> torch.device | None:
    embedding = hf_model.get_input_embeddings()
    device = embedding.weight.device
    if device.type != "meta":
        return device
    for module in (embedding, hf_model):
        for hook in _hooks(module):
            if (given := getattr(hook, "execution_device", None)) is not None:
                return torch.device(given)
    return None


def value_at_hand(hf_model: nn.Module, name: str, parameter: Tensor) -> Tensor | None:
    """The values of the parameter called `name`, fetched from where accelerate has put them; None if they are not here."""
    if not parameter.is_meta:
        return parameter.detach()
    parts = name.split(".")
    for n_parents in range(len(parts) - 1, -1, -1):
        module = hf_model.get_submodule(".".join(parts[:n_parents]))
        for hook in _hooks(module):
            weights = getattr(hook, "weights_map", None)
            try:
                found = None if weights is None else weights[".".join(parts[n_parents:])]
            except KeyError:
                continue
            if isinstance(found, Tensor):
                return found.detach()
    return None


@contextmanager
def left_in_place(hf_model: Any) -> Iterator[dict[str, torch.device]]:
    """What to tell a pipeline that is made in this block, so that it leaves the weights where they are.

    It would move a model that is not where it is told, or, where accelerate has spread one, take the first place for a device,
    which "disk" is not; so for as long as the block lasts an offloaded model does not show its map.
    """
    placed = getattr(hf_model, "hf_device_map", None)
    if placed is None:
        yield {"device": hf_model.device}
    elif not any(parameter.is_meta for parameter in hf_model.parameters()):
        yield {}
    else:
        del hf_model.hf_device_map
        try:
            yield {"device": hf_model.device}
        finally:
            hf_model.hf_device_map = placed


def _hooks(module: nn.Module) -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))
