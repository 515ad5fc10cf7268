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
