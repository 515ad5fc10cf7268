"""An `InterventionGraph` inside an nnsight trace: called from within a traced block, with the envoys of the model's blocks.

Only layers that have something to do in a call are asked for, in execution order: each costs a switch between the model and the
traced block, and a location asked for late is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.compile.stacked import StackedGraph
from persona_interp.interventions.positions import CallMasks, Spans, decode_masks, prefill_masks


@dataclass
class TracedGraph:
    """A compiled graph and the places of a traced model it acts on.

    Attributes:
        writes: what is written.
        readouts: what is read; filled while the model runs.
        blocks: the envoys of all blocks.
        embedding: the envoy whose input is the token ids.
        end_ids: ids that end an answer.
        calls: how many calls of the model were followed.
    """

    writes: StackedGraph
    readouts: Readouts
    blocks: Sequence[Any]
    embedding: Any
    end_ids: Collection[int] = ()
    calls: int = 0

    def forward(self, spans: Spans) -> None:
        """Follow one call that holds whole rows or whole prompts. Returns when the last layer concerned has run."""
        self.readouts.begin_prefill(spans)
        self._call(prefill_masks(spans), self.readouts.layers(generating=False))

    def forward_from(self, start: int, resid: Tensor, spans: Spans) -> None:
        """Follow one call in which no block up to `start` is run, because `resid` is what that one puts out."""
        masks = prefill_masks(spans)
        for layer in range(start):
            self.blocks[layer].skip(resid)
        self.blocks[start].skip(self.writes.apply(start, resid, masks) if start in self.writes.layers(masks) else resid)
        for layer in self.writes.layers(masks):
            if layer > start:
                block = self.blocks[layer]
                block.output = self.writes.apply(layer, block.output, masks)
        self.calls += 1

    def generate(self, tracer: Any, spans: Spans, max_new_tokens: int) -> None:
        """Follow a generation: the prompts, then one answer token a row and call, until it ends.

        The token that ends a row, or is cut at the limit, is never read: it does not pass through the model, except when other
        rows of the batch go on, and then it must not count either.
        """
        from nnsight.intervention.interleaver import OutOfOrderError

        reading = self.readouts.layers(generating=True)
        alive: Tensor | None = None  # no jaxtyping in a body that is sent to NDIF
        step = 0
        try:
            for step in tracer.iter[:max_new_tokens]:
                if step == 0:
                    self.forward(spans)
                    continue
                masks = decode_masks(step)
                if not reading and not self.writes.layers(masks):
                    break
                if reading:
                    alive = self._still_alive(self.embedding.input, alive)
                    self.readouts.begin_token(alive.unsqueeze(1))
                self._call(masks, reading)
        except OutOfOrderError:
            if step == 0:
                raise  # not the end of the answers: a layer was asked for that the model never ran
            # every row ended before the limit; the call waited for never came

    def _call(self, masks: CallMasks, reading: Collection[int]) -> None:
        writing = self.writes.layers(masks)
        for layer in sorted({*writing, *reading}):
            block = self.blocks[layer]
            resid = block.output
            if layer in writing:
                resid = self.writes.apply(layer, resid, masks)
                block.output = resid
            if layer in reading:
                self.readouts.read(layer, resid)
        self.readouts.end()
        self.calls += 1

    def _still_alive(self, ids: Int[Tensor, "batch 1"], before: Bool[Tensor, " batch"] | None) -> Bool[Tensor, " batch"]:
        """Rows whose token of this call is not the last one of their answer."""
        ends = torch.tensor(sorted(self.end_ids), device=ids.device, dtype=ids.dtype)
        going_on = ~torch.isin(ids[:, -1], ends)
        return going_on if before is None else before & going_on
