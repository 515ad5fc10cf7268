"""Which token positions a node means, as masks over the calls a model receives.

A row is prompt tokens, then answer tokens; pads belong to neither. The first call of a run (the prefill) holds whole rows or
whole prompts; while generating with a KV cache each later call holds one answer token per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_interp.interventions.graph import ReadPositions, WritePositions
from persona_interp.shapes import PositionMask

Everywhere = bool
"""``True``: every position of the call; ``False``: none of them. Cheaper than a mask, which then need not be looked at."""


@dataclass(frozen=True)
class Spans:
    """Where prompt and answer lie in a padded batch.

    Attributes:
        real: ``[batch pos]``, False at pads.
        prompt_end: ``[batch]``, the column after the last prompt token.
    """

    real: PositionMask
    prompt_end: Int[Tensor, " batch"]

    def writing(self, positions: WritePositions) -> PositionMask:
        """The positions a `Write` touches."""
        column, end = self._columns()
        if positions == "all":
            return self.real
        if positions == "prompt":
            return self.real & (column < end)
        return self.real & (column >= end - 1)

    def reading(self, positions: ReadPositions) -> PositionMask:
        """The positions a `Capture` reads."""
        column, end = self._columns()
        if positions == "all":
            return self.real
        if positions == "prompt":
            return self.real & (column < end)
        if positions == "prompt_last":
            return self.real & (column == end - 1)
        return self.real & (column >= end)

    def _columns(self) -> tuple[Int[Tensor, "1 pos"], Int[Tensor, "batch 1"]]:
        column = torch.arange(self.real.shape[1], device=self.real.device).unsqueeze(0)
        return column, self.prompt_end.unsqueeze(1)


def prompts_only(real: PositionMask) -> Spans:
    """The spans of a batch of prompts: each row's prompt ends with its last real token, whichever side is padded."""
    column = torch.arange(1, real.shape[1] + 1, device=real.device)
    return Spans(real, (real * column).amax(dim=1))


CallMasks = Callable[[WritePositions], "Bool[Tensor, 'batch pos'] | Everywhere"]
"""For one call of the model: the positions a `Write` touches."""


def prefill_masks(spans: Spans) -> CallMasks:
    """Masks of a call that holds whole rows or whole prompts. Each is computed once."""
    known: dict[WritePositions, Bool[Tensor, "batch pos"] | Everywhere] = {}

    def mask(positions: WritePositions) -> Bool[Tensor, "batch pos"] | Everywhere:
        if positions not in known:
            touched = spans.writing(positions)
            known[positions] = True if bool(touched.all()) else touched
        return known[positions]

    return mask


def decode_masks(positions: WritePositions) -> Everywhere:
    """Masks of a call that holds the answer token just generated for each row."""
    return positions != "prompt"
