"""Prompts that many rows of a batch share, run once: what sweeps that steer only answers save, and judges with few prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from persona_interp.interventions.compile.model_call import cache_of
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.interventions.positions import Spans
from persona_interp.models.batching import PaddedBatch, pad
from persona_interp.models.chat import TokenisedAnswer
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
    if not _leaves_prompts(graph) or batch.ids.shape[1] < 2:
        return None
    rows = torch.cat([batch.ids, batch.attention_mask], dim=1)
    distinct, index = torch.unique(rows, dim=0, return_inverse=True)
    if len(distinct) > _WORTH_IT * len(rows):
        return None
    ids, mask = distinct.chunk(2, dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return SharedPrompts(ids[:, :-1], mask[:, :-1], positions[:, :-1], index)


@dataclass(frozen=True)
class SharedRows:
    """Prompts with answers, where the answers are run behind prompts that were run once.

    Attributes:
        prompts: all but the last token of each.
        tails: the last prompt token and what is fed of the answer, every row's own.
    """

    prompts: SharedPrompts
    tails: PaddedBatch

    @property
    def inputs(self) -> dict[str, Tensor]:
        """As a model of transformers takes them beside the cache of the prompts."""
        before = self.prompts.attention_mask[self.prompts.index]
        return {
            "input_ids": self.tails.ids,
            "attention_mask": torch.cat([before, self.tails.attention_mask], dim=1),
            "position_ids": before.sum(dim=1, keepdim=True) + self.tails.position_ids,
        }


def prompts_repeat(rows: Sequence[TokenisedAnswer]) -> bool:
    """Whether few enough prompts are distinct that rows should be batched by prompt."""
    return len({row.prompt_ids for row in rows}) <= _WORTH_IT * len(rows)


def shared_rows(
    rows: Sequence[TokenisedAnswer], graph: InterventionGraph, pad_id: int, device: torch.device
) -> SharedRows | None:
    """Rows whose prompts are to be run apart; None as in `shared_prompts`."""
    if not _leaves_prompts(graph) or not prompts_repeat(rows) or min(row.n_prompt for row in rows) < 2:
        return None
    prompts = pad([row.prompt_ids for row in rows], [row.n_prompt for row in rows], pad_id, device)
    shared = shared_prompts(prompts, InterventionGraph())
    tails = [row.fed[row.n_prompt - 1 :] for row in rows]
    return None if shared is None else SharedRows(shared, pad(tails, [1] * len(rows), pad_id, device))


def last_column(spans: Spans) -> Spans:
    """The spans of the call that holds the last prompt tokens only."""
    return Spans(spans.real[:, -1:], spans.prompt_end - (spans.real.shape[1] - 1))


def _leaves_prompts(graph: InterventionGraph) -> bool:
    return all(write.positions == "response" for write in graph.writes) and not _reads_prompts(graph.captures)


def _reads_prompts(captures: Iterable[Capture]) -> bool:
    return any(capture.positions in ("all", "prompt") for capture in captures)
