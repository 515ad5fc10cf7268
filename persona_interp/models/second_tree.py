"""A second module tree over the weights of a model, which can be changed without changing the model."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from persona_interp.models.quantization import never_repack


def second_tree(hf_model: nn.Module) -> Any:
    """Modules and configuration of their own, with the very parameters and stored buffers of `hf_model`: memory does not grow.

    Replacing a module, a parameter or a setting in it leaves `hf_model` as it is; writing into a parameter does not. Running it
    does not rearrange quantized weights.
    """
    shared = [*hf_model.parameters(), *hf_model.state_dict(keep_vars=True).values(), *_beside_weights(hf_model)]
    tree = copy.deepcopy(hf_model, {id(tensor): tensor for tensor in shared})
    never_repack(tree)
    return tree


def _beside_weights(hf_model: nn.Module) -> list[Tensor]:
    """Where bitsandbytes moves 8-bit weights with the first forward; a forward of a copy would point the weights to the copy."""
    states = [vars(module.state) for module in hf_model.modules() if type(module).__name__ == "Linear8bitLt"]
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
