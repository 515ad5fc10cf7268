"""What captures read of requests while they run, pooled where the model is: only means leave the worker, whatever was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_interp.interventions.graph import Capture
from persona_interp.models.engines.vllm.slot_map import read_span


@dataclass
class Read:
    """What has been read of one request.

    Attributes:
        captures: of its graph.
        slot: its place in the running sums.
        n_prompt: tokens of its prompt.
        seen: positions up to this one have been read; a request that was preempted passes through the model again.
        counts: positions that each mean is over.
        kept: of captures without reduction, by layer.
    """

    captures: tuple[Capture, ...]
    slot: int
    n_prompt: int
    seen: int = 0
    counts: dict[Capture, int] = field(default_factory=dict)
    kept: dict[Capture, dict[int, list[Tensor]]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReads:
    """What one step reads.

    Attributes:
        summed: capture -> the tokens it reads, and whose they are.
        kept: (request, capture, places in the flat row).
    """

    summed: Mapping[Capture, tuple[Int[Tensor, " token"], Int[Tensor, " token"]]]
    kept: Sequence[tuple[Read, Capture, slice]]


class PooledReads:
    """The captures of all requests under way.

    Args:
        n_layers: blocks of the model.
        device: where it is.
    """

    def __init__(self, n_layers: int, device: torch.device) -> None:
        self._n_layers, self._device = n_layers, device
        self._reads: dict[str, Read] = {}
        self._free: list[int] = []
        self._n_slots = 0
        self._sums: dict[tuple[Capture, int], Float[Tensor, "slot d_model"]] = {}

    def request(self, key: str, captures: tuple[Capture, ...], n_prompt: int) -> Read:
        """The request with this key, made known where it is new."""
        if key not in self._reads:
            slot = self._free.pop() if self._free else self._n_slots
            self._n_slots = max(self._n_slots, slot + 1)
            self._reads[key] = Read(captures, slot, n_prompt)
        return self._reads[key]

    def step(self, scheduled: Sequence[tuple[Read, int, int, int]]) -> StepReads | None:
        """What is to be read of a step; None: nothing. It counts as read from here on.

        Args:
            scheduled: (request, position of its first token, number of tokens, place of the first in the flat row).
        """
        tokens: dict[Capture, list[int]] = {}
        slots: dict[Capture, list[int]] = {}
        kept: list[tuple[Read, Capture, slice]] = []
        for read, start, count, place in scheduled:
            begin, read.seen = max(start, read.seen), max(start + count, read.seen)
            for capture in read.captures:
                first, last = read_span(capture.positions, begin, start + count, read.n_prompt)
                if first >= last:
                    continue
                where = range(place + first - start, place + last - start)
                if capture.reduction == "none":
                    kept.append((read, capture, slice(where.start, where.stop)))
                else:
                    tokens.setdefault(capture, []).extend(where)
                    slots.setdefault(capture, []).extend([read.slot] * len(where))
                    read.counts[capture] = read.counts.get(capture, 0) + len(where)
        if not tokens and not kept:
            return None
        summed = {
            capture: (torch.tensor(tokens[capture], device=self._device), torch.tensor(slots[capture], device=self._device))
            for capture in tokens
        }
        return StepReads(summed, kept)

    def take(self, reads: StepReads, layer: int, stream: Float[Tensor, "token d_model"]) -> None:
        """Take what a step reads from the output of block `layer`."""
        for capture, (tokens, slots) in reads.summed.items():
            if layer in capture.layers_of(self._n_layers):
                chosen = stream.index_select(0, tokens).float()
                if capture.reduction == "norm":
                    chosen = torch.linalg.vector_norm(chosen, dim=-1, keepdim=True)
                self._sum(capture, layer, chosen.shape[1]).index_add_(0, slots, chosen)
        for read, capture, where in reads.kept:
            if layer in capture.layers_of(self._n_layers):
                read.kept.setdefault(capture, {}).setdefault(layer, []).append(stream[where].detach().cpu().clone())

    def _sum(self, capture: Capture, layer: int, width: int) -> Float[Tensor, "slot width"]:
        found = self._sums.get((capture, layer))
        if found is None or len(found) < self._n_slots:
            grown = torch.zeros(max(16, 2 * self._n_slots), width, device=self._device)
            if found is not None:
                grown[: len(found)] = found
            self._sums[capture, layer] = found = grown
        return found

    def values(self, key: str) -> list[Tensor | None]:
        """What each capture of a request has read so far, on the CPU; None where that is nothing.

        Shapes are those of `Readout.result`.
        """
        read = self._reads.get(key)
        return [] if read is None else [self._value(read, capture) for capture in read.captures]

    def _value(self, read: Read, capture: Capture) -> Tensor | None:
        layers = capture.layers_of(self._n_layers)
        if capture.reduction == "none":
            if capture not in read.kept:
                return None
            whole = torch.stack([torch.cat(read.kept[capture][layer]) for layer in layers])
            return whole[:, 0].clone() if capture.positions == "prompt_last" else whole
        if not read.counts.get(capture):
            return None
        return torch.stack([self._sums[capture, layer][read.slot] for layer in layers]).cpu() / read.counts[capture]

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what was read of these requests."""
        for key in keys:
            read = self._reads.pop(key, None)
            if read is not None:
                self._free.append(read.slot)
                for (capture, _layer), total in self._sums.items():
                    if capture in read.captures and read.slot < len(total):
                        total[read.slot] = 0
        if not self._reads:
            self._free, self._n_slots, self._sums = [], 0, {}
