"""The writes of an `InterventionGraph` as llama.cpp control vectors: one offset for each block but the first, for every token.

A control vector knows no positions and no rows. But it can be exchanged between two calls of the model, so a prompt, its last
token and the answer can each have their own, and rows that are written to differently are run apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions

ControlVector: TypeAlias = Float[Tensor, "steerable d_model"]
"""What is added to the outputs of blocks 1, 2, ... in float32, as llama.cpp takes it: block 0 has no row."""


@dataclass(frozen=True)
class PhaseVectors:
    """What is added while each part of a row passes through the model; None adds nothing.

    Attributes:
        prompt: the prompt without its last token.
        last: the last prompt token, which predicts the first one of the answer.
        answer: answer tokens.
    """

    prompt: ControlVector | None = None
    last: ControlVector | None = None
    answer: ControlVector | None = None

    @property
    def key(self) -> tuple[bytes | None, ...]:
        """Equal for phases that add the same."""
        return tuple(None if part is None else part.numpy().tobytes() for part in (self.prompt, self.last, self.answer))


@dataclass(frozen=True)
class SteeredRows:
    """Rows of a batch that are steered alike."""

    rows: tuple[int, ...]
    vectors: PhaseVectors


def control_vectors(graph: InterventionGraph, n_rows: int, n_layers: int, d_model: int) -> list[SteeredRows]:
    """The rows of a batch in groups that are steered alike, in the order of their first rows."""
    groups: dict[tuple[bytes | None, ...], list[int]] = {}
    vectors: dict[tuple[bytes | None, ...], PhaseVectors] = {}
    known: dict[tuple[int, ...], PhaseVectors] = {}
    for row in range(n_rows):
        writes = tuple(place for place, write in enumerate(graph.writes) if write.rows is None or row in write.rows)
        if writes not in known:
            known[writes] = _phases([graph.writes[place] for place in writes], n_layers, d_model)
        key = known[writes].key
        groups.setdefault(key, []).append(row)
        vectors.setdefault(key, known[writes])
    return [SteeredRows(tuple(rows), vectors[key]) for key, rows in groups.items()]


def _phases(writes: Sequence[Write], n_layers: int, d_model: int) -> PhaseVectors:
    def summed(*positions: WritePositions) -> ControlVector | None:
        concerned = [write for write in writes if write.positions in positions]
        if not concerned:
            return None
        total = torch.zeros(max(1, n_layers - 1), d_model, dtype=torch.float64)
        for write in concerned:
            total[write.layer - 1] += float(write.coefficient) * write.operation.direction.detach().cpu().double()
        return cast(ControlVector, total.float())

    return PhaseVectors(summed("all", "prompt"), summed("all", "prompt", "response"), summed("all", "response"))
