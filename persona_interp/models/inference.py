"""A model as it must be while it is only run: in evaluation mode and without gradients, and put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from persona_interp.models.quantization import as_loaded


@contextmanager
def inference_only(hf_model: nn.Module) -> Iterator[None]:
    """Switch dropout and gradients off; every module gets its training mode back, also after an error."""
    training = [module for module in hf_model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), as_loaded(hf_model):
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def frozen(hf_model: nn.Module) -> Iterator[None]:
    """No gradient of the weights, so that nothing is kept for one; every parameter gets its setting back, also after an error."""
    wanted = [parameter for parameter in hf_model.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_()
