"""How large a batch each verb of a model may run, from the model's shape and what its device has free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from persona_interp.interventions.graph import Capture
from persona_interp.models.batching import PACKED, ROWS_PER_BATCH, Room, generation_rows
from persona_interp.models.families import text_config
from persona_interp.models.memory import PassCost, RowBytes


@dataclass(frozen=True)
class Rooms:
    """The rooms of one model.

    Attributes:
        config: of Hugging Face.
        dtype: of the weights.
        device: where they are.
        known: whether `device` is where the model runs; of NDIF's memory nothing is known.
        packed: the engine batches rows itself (`Engine.packs_rows`), so only what is kept of them here bounds a call.
    """

    config: Any
    dtype: torch.dtype
    device: torch.device
    known: bool = True
    packed: bool = False

    def generating(self, lengths: Sequence[int]) -> Room:
        """For rows of so many tokens, answers included."""
        if self.packed:
            return PACKED
        return self._room(self._cost.generating(), generation_rows(self._text, self.dtype, max(lengths, default=1)))

    def capturing(self, captures: Sequence[Capture], n_layers: int) -> Room:
        """For reading texts; what is kept of every position is put together from layers, and held twice meanwhile."""
        whole = sum(len(node.layers_of(n_layers)) for node in captures if node.reduction == "none")
        return self._room(self._cost.reading(kept_layers=2 * whole), packed=self.packed and not whole)

    def scoring(self, n_kept_layers: int, *, cached: bool) -> Room:
        """For likelihoods, while the residuals of some layers are kept to restart from, or the keys and values of prompts."""
        return self._room(self._cost.reading(kept_layers=n_kept_layers, cached=cached), packed=self.packed)

    def differentiating(self) -> Room:
        """For gradients."""
        return self._room(self._cost.differentiating())

    def predicting(self) -> Room:
        """For the logits of the next token."""
        return self._room(self._cost.reading(logits=True))

    @property
    def _text(self) -> Any:
        return text_config(self.config)

    @property
    def _cost(self) -> PassCost:
        return PassCost(self._text, self.dtype)

    def _room(self, a_row: RowBytes, most: int = ROWS_PER_BATCH, *, packed: bool = False) -> Room:
        if packed:
            return PACKED
        return Room(most, a_row if self.known else None, self.device)
