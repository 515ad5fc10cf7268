"""How far the residual stream of a GGUF model lies from that of the PyTorch model it was exported from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.records import Record

BAR = 1e-3
"""Largest difference of any entry that may lie between the two."""
_TEXTS_AT_ONCE = 20


@dataclass(frozen=True)
class ResidualParity(Record):
    """The outputs of every block for every token of some texts, in llama.cpp against PyTorch.

    Attributes:
        model: whose.
        reference: what llama.cpp was compared with.
        largest: largest difference of an entry.
        layer: 0-based block where that is.
        norm: mean length of a residual there.
        n_tokens: compared at every block.
        n_beyond: tokens of which some entry at some block differs by more than the bar.
    """

    json_kind = "parity of residuals"

    model: str
    reference: str
    largest: float
    layer: int
    norm: float
    n_tokens: int
    n_beyond: int

    @property
    def met(self) -> bool:
        """Whether no entry differs by more than the bar."""
        return self.largest <= BAR


def residual_parity(
    native: SteerableModel, model: SteerableModel, texts: Sequence[TokenisedAnswer], *, reference: str
) -> ResidualParity:
    """Compare both on `texts`, whose ids are the same in both.

    Args:
        native: runs in llama.cpp.
        model: runs in PyTorch.
        texts: read whole.
        reference: how the result calls `model`.
    """
    largest, norms = (torch.zeros(model.n_layers, dtype=torch.float32) for _ in range(2))
    n_tokens = n_beyond = 0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        for ours, theirs in zip(_residuals(native, some), _residuals(model, some), strict=True):
            differences = (ours - theirs).abs().amax(dim=2)
            largest = torch.maximum(largest, differences.amax(dim=1))
            n_beyond += int((differences.amax(dim=0) > BAR).sum())
            norms += theirs.norm(dim=-1).sum(dim=1)
            n_tokens += theirs.shape[1]
    layer = int(largest.argmax())
    return ResidualParity(model.name, reference, float(largest[layer]), layer, float(norms[layer]) / n_tokens, n_tokens, n_beyond)


def _residuals(model: SteerableModel, texts: Sequence[TokenisedAnswer]) -> Iterator[Tensor]:
    """``[layer token d_model]`` of each text."""
    graph = InterventionGraph((Capture("all", "none"),))
    for found in model.capture(texts, graph):
        yield found[graph.captures[0]].float().cpu()


class TableGelu(torch.nn.Module):
    """The GELU of llama.cpp, which reads it off a table whose places and entries are in half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Of every entry."""
        return torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()


def give_table_gelu(hf_model: Any) -> Any:
    """Let a GPT-2 of one's own compute GELU as llama.cpp does; models without one stay as they are. Returns it."""
    for block in getattr(getattr(hf_model, "transformer", None), "h", ()):
        block.mlp.act = TableGelu()
    return hf_model
