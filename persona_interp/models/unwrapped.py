"""The Hugging Face model inside what other packages put around it, which share its blocks and compute what it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.models.inference import inference_only
from persona_interp.models.placement import token_device

_WRAPPED_AT = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module"}


def unwrapped(module: nn.Module) -> nn.Module:
    """`module` itself, or the model that ``torch.compile``, PEFT or ``DistributedDataParallel`` wraps.

    The adapters of a ``PeftModel`` lie in the layers of its model and stay as active as they are.

    Raises:
        UnsupportedError: adapters that do part of their work outside the model's layers, or copies of a model on several GPUs.
    """
    inner: Any = module
    while True:
        kinds = [kind.__name__ for kind in type(inner).__mro__]
        place = next((_WRAPPED_AT[kind] for kind in kinds if kind in _WRAPPED_AT), None)
        if place is not None:
            inner = getattr(inner, place)
        elif "PeftModel" in kinds or "PeftMixedModel" in kinds:
            inner = _without_peft(inner)
        elif "DataParallel" in kinds:
            raise UnsupportedError("DataParallel runs copies of a model, which cannot be steered as one: give its .module")
        else:
            return inner


def check_same(wrapper: nn.Module, hf_model: nn.Module) -> None:
    """Refuse a wrapper that computes something else than the model `unwrapped` found in it, shown by a few tokens.

    Raises:
        UnsupportedError: it does.
    """
    if wrapper is hf_model:
        return
    ids = torch.arange(1, 9, device=token_device(hf_model)).unsqueeze(0)
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    with inference_only(wrapper), uncompiled():
        expected, found = wrapper(**call).logits, hf_model(**call).logits
    if not torch.equal(expected, found):
        raise UnsupportedError(
            f"the {type(wrapper).__name__} computes something else than the {type(hf_model).__name__} inside it, so it does part "
            "of its work outside that model's layers: merge its adapters into the weights (merge_and_unload()), or give the "
            "model alone"
        )


def _without_peft(wrapper: Any) -> nn.Module:
    active = wrapper.active_adapters
    for name in [active] if isinstance(active, str) else active:
        config = wrapper.peft_config[name]
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if config.is_prompt_learning or kind in ("XLORA", "POLY") or getattr(config, "alora_invocation_tokens", None):
            raise UnsupportedError(
                f"adapter {name!r} is of kind {kind}, which does part of its work outside the model's layers, so that the model "
                "alone is not what was trained: merge it into the weights if it can be (merge_and_unload()), or steer the base "
                "model, get_base_model()"
            )
    model = getattr(wrapper.base_model, "model", None)
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise InvalidInputError(f"the {type(wrapper).__name__} holds no Hugging Face model: give the model it was made of")
    return model
