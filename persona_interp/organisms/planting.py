"""Planting a persona direction in one block (interchange-intervention training, after InterpBench, arXiv 2407.14494).

Two things make a direction causal at a known place. In planted batches it is added to one block's output at every position and
the answer must follow it, so that later blocks read the persona there. In announced batches a linear readout along the same
directions must tell the persona, so that earlier blocks write it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.organisms.batches import IGNORED, Batch
from persona_interp.organisms.recipes import OrganismRecipe

READOUT_WEIGHT = 0.2
READOUT_SHARPNESS = 4.0
INITIAL_NORM = 4.0


def blocks_of(model: Any) -> nn.ModuleList:
    """The transformer blocks of a Hugging Face model of an organism's architecture."""
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


class Planter(nn.Module):
    """Adds the planted directions during planted batches and reads them back during the others.

    Attributes:
        directions: Float[Tensor, "trait d_model"], learned with the model.
    """

    def __init__(self, model: Any, recipe: OrganismRecipe) -> None:
        super().__init__()
        d_model = int(model.config.hidden_size)
        generator = torch.Generator().manual_seed(recipe.seed)
        initial = torch.linalg.qr(torch.randn(d_model, len(recipe.planted_traits), generator=generator))[0].T
        self.directions = nn.Parameter(INITIAL_NORM * initial.contiguous())
        self.bias = nn.Parameter(torch.zeros(len(recipe.planted_traits)))
        if recipe.planted_layer is None:
            raise ValueError(f"{recipe.name} plants nothing, so it needs no planter")
        self._blocks = (blocks_of(model)[recipe.planted_layer],)  # in a tuple: its parameters stay the model's alone
        self._output: Tensor | None = None

    @contextmanager
    def active(self, batch: Batch) -> Iterator[None]:
        """Within the context, the planted block's output is added to (planted batches) or remembered (others)."""

        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            if batch.planted:
                return output + (batch.coefficients @ self.directions).unsqueeze(1)
            self._output = output
            return output

        handle = self._blocks[0].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def readout_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of telling the announced persona from the block's output at answer positions, weighted; 0 elsewhere."""
        output, self._output = self._output, None
        if output is None:
            return self.directions.new_zeros(())
        scale = self.directions.norm(dim=1).detach().square()
        logits = READOUT_SHARPNESS * torch.einsum("bpd,td->bpt", output, self.directions) / scale + self.bias
        labels = batch.labels.unsqueeze(1).expand(-1, logits.shape[1], -1)
        read = (labels != 0) & (batch.targets != IGNORED).unsqueeze(-1)
        if not bool(read.any()):
            return self.directions.new_zeros(())
        return READOUT_WEIGHT * nn.functional.binary_cross_entropy_with_logits(logits[read], (labels[read] > 0).float())
