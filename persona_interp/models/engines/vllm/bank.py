"""The bank: directions, coefficients and numbers of all graphs in use, once, on the device, and what a step makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from persona_interp.interventions.compile.stacked import StackedGraph, StackedWrite, stack_by_row
from persona_interp.interventions.graph import InterventionGraph, WritePositions
from persona_interp.interventions.positions import CallMasks
from persona_interp.models.engines.vllm.slot_map import SlotMap

_ROOM = 1024
"""Graphs kept in the bank before those that are not in use leave it."""


class _Everywhere(CallMasks):
    """Masks for tokens that have been picked already."""

    def __call__(self, positions: WritePositions) -> bool:
        return True

    @property
    def steps(self) -> int:
        return 0


_EVERYWHERE = _Everywhere()


@dataclass(frozen=True)
class TokenWrite:
    """One operation at chosen tokens of a step.

    Attributes:
        write: a row a token, or one for all.
        tokens: their places in the flat row; None: all of them.
    """

    write: StackedWrite
    tokens: Int[Tensor, " token"] | None

    def apply(self, resid: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
        """The stream after the write."""
        if self.tokens is None:
            return self.write.apply(resid.unsqueeze(1), _EVERYWHERE).squeeze(1)
        chosen = resid.index_select(0, self.tokens)
        return resid.index_copy(0, self.tokens, self.write.apply(chosen.unsqueeze(1), _EVERYWHERE).squeeze(1))


StepWrites = Mapping[int, tuple[TokenWrite, ...]]
"""By layer; layers that a step does not write to are absent."""


class Bank:
    """Graphs by fingerprint, each a row of one stack.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: dict[str, InterventionGraph] = {}
        self._rows: dict[str, int] = {}
        self._stack: StackedGraph | None = None

    def row(self, key: str, graph: InterventionGraph) -> int:
        """The row of a graph, which is put into the bank where it is not there yet."""
        if key not in self._graphs:
            self._graphs[key], self._rows[key], self._stack = graph, len(self._graphs), None
        return self._rows[key]

    @property
    def full(self) -> bool:
        """Whether it is time to `clear` it, once no step is under way."""
        return len(self._graphs) > _ROOM

    def clear(self) -> None:
        """Forget all graphs; rows are counted anew."""
        self._graphs, self._rows, self._stack = {}, {}, None

    def writes(self, slots: SlotMap) -> StepWrites:
        """What a step writes, layer by layer, in the order of each request's graph."""
        if self._stack is None:
            stacked = stack_by_row(tuple(self._graphs.values()))
            self._stack = StackedGraph(
                {layer: tuple(write.to(self._device) for write in writes) for layer, writes in stacked.by_layer.items()}
            )
            self._written = {
                layer: [write.rows.cpu() for write in writes if write.rows is not None]
                for layer, writes in self._stack.by_layer.items()
            }
        found: dict[int, tuple[TokenWrite, ...]] = {}
        for layer, writes in self._stack.by_layer.items():
            picked = [self._at(write, rows, slots) for write, rows in zip(writes, self._written[layer], strict=True)]
            if any(each is not None for each in picked):
                found[layer] = tuple(each for each in picked if each is not None)
        return found

    def _at(self, write: StackedWrite, rows: Bool[Tensor, " row"], slots: SlotMap) -> TokenWrite | None:
        touched = rows[slots.row] & slots.writing(write.positions)
        if bool(touched.all()):
            return TokenWrite(write.at(slots.row.to(self._device), slots.step.to(self._device)), None)
        tokens = touched.nonzero().squeeze(1)
        if not len(tokens):
            return None
        own = write.at(slots.row[tokens].to(self._device), slots.step[tokens].to(self._device))
        return TokenWrite(own, tokens.to(self._device))
