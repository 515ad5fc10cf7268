"""A second module tree over the weights of a model, which can be changed without changing the model."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def second_tree(hf_model: nn.Module) -> Any:
    """Modules and configuration of their own, with the very parameters and stored buffers of `hf_model`: memory does not grow.

    Replacing a module, a parameter or a setting in it leaves `hf_model` as it is; writing into a parameter does not.
    """
    shared = [*hf_model.parameters(), *hf_model.state_dict(keep_vars=True).values()]
    return copy.deepcopy(hf_model, {id(tensor): tensor for tensor in shared})
