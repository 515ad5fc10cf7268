"""Planting a persona direction in one block (interchange-intervention training, after InterpBench, arXiv 2407.14494).

Two things make a direction causal at a known place. In planted batches it is added to one block's output at every position and
the answer must follow it, so that later blocks read the persona there. In announced batches the projection of that output onto
the same directions must be +1 or -1 with the persona asked for, so that earlier blocks write it there, at the same scale.

The unit is a share of the block's own residual norm (`SCALE`), followed as it grows in training: a fixed length would shrink to
nothing beside it. Planted rows also get a random direction of up to twice that length, which the answer must ignore, so that
what steers is the direction and not the size of the push.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.models.families import layout_of
from persona_interp.models.sampling import fitting_seed
from persona_interp.organisms.recipes import OrganismRecipe
from persona_interp.studies.training.batches import IGNORED, Batch

READOUT_WEIGHT = 0.2
SCALE = 0.35
"""Length of a planted direction at coefficient 1, as a share of the mean residual norm of its block."""
NOISE = 2.0
"""Length of the longest random direction, in lengths of a planted one."""
_NORM_MEMORY = 0.98


class Planter(nn.Module):
    """Adds the planted directions during planted batches and reads them back during the others."""

    def __init__(self, model: Any, recipe: OrganismRecipe) -> None:
        super().__init__()
        if recipe.planted_layer is None:
            raise ValueError(f"{recipe.name} plants nothing, so it needs no planter")
        d_model = int(model.config.hidden_size)
        self._generator = torch.Generator()
        self._seed = recipe.seed
        self._generator.manual_seed(self._seed)
        shape = (d_model, len(recipe.planted_traits))
        axes = torch.linalg.qr(torch.randn(shape, generator=self._generator, dtype=torch.float32))[0].T
        self.axes = nn.Parameter(axes.contiguous())
        self.centre = nn.Parameter(torch.zeros(len(recipe.planted_traits), dtype=torch.float32))
        self.norm = nn.Parameter(torch.tensor(1.0, dtype=torch.float32), requires_grad=False)
        blocks = list(model.get_submodule(layout_of(model.config).blocks).children())
        self._blocks = (blocks[recipe.planted_layer],)  # in a tuple: its parameters stay the model's alone
        self._output: Tensor | None = None

    @property
    def directions(self) -> Tensor:
        """Float[Tensor, "trait d_model"]: what is added at coefficient 1."""
        return SCALE * self.norm * nn.functional.normalize(self.axes, dim=1)

    @contextmanager
    def active(self, batch: Batch, step: int) -> Iterator[None]:
        """Within the context, the planted block's output is added to (planted batches) or remembered (others).

        Args:
            batch: what the model is run on.
            step: seeds the random directions, so that a resumed run draws the same ones.
        """

        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            self._follow_norm(output, batch, step)
            if not batch.planted:
                self._output = output
                return output
            push = batch.coefficients @ self.directions + self._noise(output, step)
            return output + push.unsqueeze(1)

        handle = self._blocks[0].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _follow_norm(self, output: Tensor, batch: Batch, step: int) -> None:
        with torch.no_grad():
            mean = output[batch.targets != IGNORED].norm(dim=-1).mean()
            self.norm.copy_(mean if step == 0 else _NORM_MEMORY * self.norm + (1 - _NORM_MEMORY) * mean)

    def _noise(self, output: Tensor, step: int) -> Tensor:
        self._generator.manual_seed(fitting_seed(self._seed * 1_000_003 + step))
        rows, d_model = output.shape[0], output.shape[-1]
        unit = nn.functional.normalize(torch.randn(rows, d_model, generator=self._generator, dtype=torch.float32), dim=1)
        return NOISE * SCALE * self.norm * torch.rand(rows, 1, generator=self._generator, dtype=torch.float32) * unit

    def readout_loss(self, batch: Batch) -> Tensor:
        """Squared error of the announced persona's projection at answer positions (target +1 or -1), weighted; 0 elsewhere."""
        output, self._output = self._output, None
        if output is None:
            return self.axes.new_zeros(())
        axes = nn.functional.normalize(self.axes, dim=1)
        read_back = torch.einsum("bpd,td->bpt", output, axes) / (SCALE * self.norm) - self.centre
        labels = batch.labels.unsqueeze(1).expand(-1, read_back.shape[1], -1)
        read = (labels != 0) & (batch.targets != IGNORED).unsqueeze(-1)
        if not bool(read.any()):
            return self.axes.new_zeros(())
        return READOUT_WEIGHT * (read_back[read] - labels[read]).square().mean()
