"""Adapters (LoRA and its kin) that PEFT has put into the layers of a model: which of them count, and what that makes of weights.

PEFT is not needed to look at them: its layers say by themselves what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn


def active_adapters(model: nn.Module) -> tuple[str, ...]:
    """Names of the adapters that change what `model` computes, merged ones too, in the order in which they were made active."""
    names: list[str] = []
    for _, layer in _adapted_layers(model):
        names.extend(name for name in (*layer.merged_adapters, *_working(layer)) if name not in names)
    return tuple(names)


def adapter_settings(model: nn.Module) -> dict[str, list[tuple[str, float]]]:
    """By layer, the adapters that work beside its weights, with their scale; a layer none works in is left out."""
    found: dict[str, list[tuple[str, float]]] = {}
    for place, layer in _adapted_layers(model):
        scales = getattr(layer, "scaling", {})
        if working := _working(layer):
            found[place] = [(name, float(scales.get(name, 1.0))) for name in working]
    return found


def effective_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Those of the parameter `names` that count, each with the name it has in a model without adapters.

    Left out are those of adapters that are off, or merged into the weights; those of the others keep their own names.
    """
    adapted = dict(_adapted_layers(model))
    found = ((name, _effective(name, adapted)) for name in names)
    return {name: effective for name, effective in found if effective is not None}


def _effective(name: str, adapted: Mapping[str, Any]) -> str | None:
    for place, layer in adapted.items():
        if name.startswith(f"{place}.base_layer."):
            return f"{place}.{name.removeprefix(f'{place}.base_layer.')}"
        if name.startswith(f"{place}."):
            return name if set(name.removeprefix(f"{place}.").split(".")) & set(_working(layer)) else None
    return name


def _adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for place, module in model.named_modules():
        if all(hasattr(module, name) for name in ("base_layer", "active_adapters", "disable_adapters", "merged_adapters")):
            yield place, module


def _working(layer: Any) -> list[str]:
    """The adapters whose own weights a layer uses when it runs: none where they are off, or lie in its weights already."""
    return [] if layer.disable_adapters or layer.merged_adapters else list(layer.active_adapters)
