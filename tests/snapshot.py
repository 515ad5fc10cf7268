"""All that a user's model and tokenizer consist of, as values to compare before and after."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def snapshot(hf_model: Any, tokenizer: Any) -> dict[str, Any]:
    """Weights and buffers by their bytes, flags, hooks, settings, tokenizer, and the global random state."""
    tensors = {**dict(hf_model.named_parameters()), **dict(hf_model.named_buffers())}
    return {
        "tensors": {name: (tensor.data_ptr(), tensor.dtype, _digest(tensor)) for name, tensor in tensors.items()},
        "quantized": {name: _scales(module) for name, module in hf_model.named_modules() if _scales(module)},
        "requires_grad": [parameter.requires_grad for parameter in hf_model.parameters()],
        "grads": [parameter.grad for parameter in hf_model.parameters()],
        "training": [module.training for module in hf_model.modules()],
        "modules": [(name, type(module).__name__) for name, module in hf_model.named_modules()],
        "hooks": [[list(getattr(module, kind)) for kind in _HOOKS] for module in hf_model.modules()],
        "generation": hf_model.generation_config.to_dict(),
        "config": hf_model.config.to_dict(),
        "attention": hf_model.config._attn_implementation,
        "tokenizer": (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.special_tokens_map, tokenizer.chat_template),
        "vocabulary": hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest(),
        "random": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "gradients": torch.is_grad_enabled(),
    }


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(
        tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else b""
    ).hexdigest()


def _scales(module: Any) -> list[str]:
    """What bitsandbytes keeps beside quantized weights; it moves from the weight to the module with the first forward."""
    places = (getattr(module, "state", None), getattr(module, "weight", None))
    found = [getattr(place, "SCB", None) for place in places]
    found.append(getattr(getattr(places[1], "quant_state", None), "absmax", None))
    return [f"{tuple(scale.shape)} {scale.dtype} {_digest(scale)}" for scale in found if isinstance(scale, Tensor)]
