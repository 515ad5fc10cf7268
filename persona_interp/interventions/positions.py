"""Which token positions a node means, as masks over the calls a model receives.

A row is prompt tokens, then answer tokens; pads belong to neither. The first call of a run (the prefill) holds whole rows or
whole prompts; while generating with a KV cache each later call holds one answer token per row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
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

    def steps(self) -> Int[Tensor, "batch pos"]:
        """The step of generation each position belongs to: 0 in the prompt, k at the k-th answer token (see `schedules`)."""
        return self.reading("answer").cumsum(dim=1)

    def _columns(self) -> tuple[Int[Tensor, "1 pos"], Int[Tensor, "batch 1"]]:
        column = torch.arange(self.real.shape[1], device=self.real.device).unsqueeze(0)
        return column, self.prompt_end.unsqueeze(1)


def prompts_only(real: PositionMask) -> Spans:
    """The spans of a batch of prompts: each row's prompt ends with its last real token, whichever side is padded."""
    column = torch.arange(1, real.shape[1] + 1, device=real.device)
    return Spans(real, (real * column).amax(dim=1))


def row_spans(real: PositionMask, n_prompt: Sequence[int] | None) -> Spans:
    """The spans of rows of which the first `n_prompt` tokens each are the prompt; all of them if None. Padded on either side."""
    if n_prompt is None:
        return prompts_only(real)
    start = real.long().argmax(dim=1)
    return Spans(real, start + torch.tensor(list(n_prompt), device=real.device))


class CallMasks(ABC):
    """What is to be known of one call of the model before it can be written to."""

    @abstractmethod
    def __call__(self, positions: WritePositions) -> Bool[Tensor, "batch pos"] | Everywhere:
        """The positions of the call that a `Write` touches."""

    @property
    @abstractmethod
    def steps(self) -> int | Int[Tensor, "batch pos"]:
        """The step of generation each position belongs to; a number where it is the same for all."""


class _SpanMasks(CallMasks):
    # on the class: NDIF is sent functions with what their bodies name, and has no jaxtyping
    _known: dict[WritePositions, Bool[Tensor, "batch pos"] | Everywhere]
    _steps: Int[Tensor, "batch pos"] | None

    def __init__(self, spans: Spans, start: int = 0) -> None:
        self._spans = spans
        self._start = start
        self._known = {}
        self._steps = None

    def __call__(self, positions: WritePositions) -> Bool[Tensor, "batch pos"] | Everywhere:
        if positions not in self._known:
            touched = self._spans.writing(positions)[:, self._start :]
            self._known[positions] = True if bool(touched.all()) else touched
            if self._start and not bool(touched.any()):  # as in every call that holds answer tokens only
                self._known[positions] = False
        return self._known[positions]

    @property
    def steps(self) -> int | Int[Tensor, "batch pos"]:
        if self._steps is None:
            self._steps = self._spans.steps()[:, self._start :]
        return self._steps


class _AnswerMasks(CallMasks):
    # on the class: NDIF is sent functions with what their bodies name, and has no jaxtyping
    _step: int | Int[Tensor, "batch 1"]

    def __init__(self, step: int | Tensor) -> None:
        self._step = step

    def __call__(self, positions: WritePositions) -> Bool[Tensor, "batch pos"] | Everywhere:
        return positions != "prompt"

    @property
    def steps(self) -> int | Int[Tensor, "batch pos"]:
        return self._step


def prefill_masks(spans: Spans) -> CallMasks:
    """Masks of a call that holds whole rows or whole prompts. Each is computed once."""
    return _SpanMasks(spans)


def decode_masks(step: int) -> CallMasks:
    """Masks of a call that holds the answer token just generated for each row, the `step`-th one (from 1 on)."""
    return _AnswerMasks(step)


def answering_masks(steps: Int[Tensor, "batch 1"]) -> CallMasks:
    """Masks of a call that holds one answer token a row, each row at a step of its own (from 1 on)."""
    return _AnswerMasks(steps)


def later_masks(spans: Spans, start: int) -> CallMasks:
    """Masks of a call that holds the columns of `spans` from `start` on, the others being in a KV cache."""
    return _SpanMasks(spans, start)
