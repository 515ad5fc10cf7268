"""The slot map: which request, position and step each scheduled token of one forward pass belongs to.

vLLM runs the tokens of all requests of a step in one flat row: whole prompts, pieces of long ones, and single answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_interp.interventions.graph import ReadPositions, WritePositions


@dataclass(frozen=True)
class Scheduled:
    """The tokens of one request in a step: neighbours in the flat row.

    Attributes:
        row: of the bank of graphs.
        start: position of the first of them in the request.
        count: how many.
        n_prompt: tokens of the request's prompt.
    """

    row: int
    start: int
    count: int
    n_prompt: int


@dataclass(frozen=True)
class SlotMap:
    """Facts of a step by token.

    Attributes:
        requests: in the order of their tokens.
    """

    requests: Sequence[Scheduled]

    @cached_property
    def request(self) -> Int[Tensor, " token"]:
        """Which of the requests."""
        return torch.repeat_interleave(torch.arange(len(self.requests)), self._of("count"))

    @cached_property
    def row(self) -> Int[Tensor, " token"]:
        """The row of the bank."""
        return self._of("row")[self.request]

    @cached_property
    def position(self) -> Int[Tensor, " token"]:
        """Counted from the first token of the request."""
        counts = self._of("count")
        begins = counts.cumsum(0) - counts
        return torch.arange(len(self.request)) + (self._of("start") - begins)[self.request]

    @cached_property
    def step(self) -> Int[Tensor, " token"]:
        """The step of generation (see `schedules`): 0 in the prompt, k at the k-th answer token."""
        return (self.position - self._end + 1).clamp(min=0)

    def writing(self, positions: WritePositions) -> Bool[Tensor, " token"]:
        """The tokens a `Write` touches, as `Spans.writing` says it of a batch."""
        if positions == "all":
            return torch.ones(len(self.request), dtype=torch.bool)
        return self.position < self._end if positions == "prompt" else self.position >= self._end - 1

    @cached_property
    def _end(self) -> Int[Tensor, " token"]:
        return self._of("n_prompt")[self.request]

    def _of(self, name: str) -> Int[Tensor, " request"]:
        return torch.tensor([getattr(each, name) for each in self.requests], dtype=torch.long)


def read_span(positions: ReadPositions, start: int, end: int, n_prompt: int) -> tuple[int, int]:
    """The positions from `start` up to `end` that a `Capture` reads, as such a range; empty where its ends meet or cross."""
    first, last = {
        "all": (0, end),
        "prompt": (0, n_prompt),
        "prompt_last": (n_prompt - 1, n_prompt),
        "answer": (n_prompt, end),
    }[positions]
    return max(start, first), min(end, last)
