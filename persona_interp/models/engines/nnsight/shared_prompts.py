"""Prompts that many rows of a batch share, run once: what a sweep that steers only answers can save."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from persona_interp.interventions.compile.model_call import cache_of
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.interventions.positions import Spans
from persona_interp.models.batching import PaddedBatch
from persona_interp.shapes import TokenIds

_WORTH_IT = 0.5
"""Largest share of distinct rows at which running them apart still pays."""


@dataclass(frozen=True)
class SharedPrompts:
    """The distinct prompts of a batch without their last tokens, and which of them each row has.

    Attributes:
        ids: ``[distinct pos]``.
        attention_mask: likewise.
        position_ids: likewise.
        index: ``[row]``, for every row of the batch.
    """

    ids: TokenIds
    attention_mask: TokenIds
    position_ids: TokenIds
    index: Int[Tensor, " row"]

    def cache(self, hf_model: Any) -> Any:
        """The key-value cache of every row, from one forward of the distinct prompts."""
        outputs = hf_model(
            input_ids=self.ids,
            attention_mask=self.attention_mask,
            position_ids=self.position_ids,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = cache_of(outputs)
        cache.reorder_cache(self.index)
        return cache


def shared_prompts(batch: PaddedBatch, graph: InterventionGraph) -> SharedPrompts | None:
    """The prompts to run apart; None where `graph` touches them, or too few rows share one.

    The last prompt token is never among them: it predicts the first answer token, so steering an answer begins there.
    """
    if any(write.positions != "response" for write in graph.writes) or _reads_prompts(graph.captures) or batch.ids.shape[1] < 2:
        return None
    rows = torch.cat([batch.ids, batch.attention_mask], dim=1)
    distinct, index = torch.unique(rows, dim=0, return_inverse=True)
    if len(distinct) > _WORTH_IT * len(rows):
        return None
    ids, mask = distinct.chunk(2, dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return SharedPrompts(ids[:, :-1], mask[:, :-1], positions[:, :-1], index)


def last_column(spans: Spans) -> Spans:
    """The spans of the call that holds the last prompt tokens only."""
    return Spans(spans.real[:, -1:], spans.prompt_end - (spans.real.shape[1] - 1))


def _reads_prompts(captures: Iterable[Capture]) -> bool:
    return any(capture.positions in ("all", "prompt") for capture in captures)
