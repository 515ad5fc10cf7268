"""Rows that are answered side by side and come and go between steps: what a server needs (continuous batching).

Each row has a graph of its own and its own place in its answer. Keys and values lie in one cache, padded on the left: a row that
comes is run alone (with those that come with it) and laid beside the others, a row that goes is taken out, and columns that hold
nothing but pads are cut off. What a row is told does not depend on its neighbours, up to the rounding of the dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.hooks import hooked
from persona_interp.interventions.compile.model_call import cache_name, cache_of
from persona_interp.interventions.compile.stacked import StackedGraph, stack_writes
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.positions import CallMasks, answering_masks, prefill_masks
from persona_interp.models.batching import pad
from persona_interp.models.families import FamilyLayout, text_config
from persona_interp.models.placement import token_device
from persona_interp.shapes import PositionMask, Residual

_KINDS = {"full_attention", "sliding_attention"}


@dataclass(eq=False)
class RunningRow:
    """One answer under way.

    Attributes:
        prompt: its ids, at least one.
        graph: what is written, to this row alone; its captures are not read.
        watched: layer -> unit directions ``[direction d_model]``, whose projections are read at the newest token of each call:
            the last prompt token, then each answer token but the last, which never passes through the model.
        readings: layer -> one entry a call, ``[direction]``.
        n_answer: answer tokens that have passed through the model.
    """

    prompt: Sequence[int]
    graph: InterventionGraph
    watched: Mapping[int, Float[Tensor, "direction d_model"]] = field(default_factory=dict)
    readings: dict[int, list[Tensor]] = field(default_factory=dict)
    n_answer: int = 0


class RunningBatch:
    """The rows of one model that are under way. Not for several threads at once; the model's other callers take turns with it.

    Args:
        hf_model: a causal language model.
        layout: where its blocks are.
        alone: a block in which nobody else runs the model, and in which it is ready to be run.
        pad_id: any token.

    Raises:
        UnsupportedError: what the model remembers of a text is more than keys and values.
    """

    def __init__(
        self, hf_model: Any, layout: FamilyLayout, alone: Callable[[], AbstractContextManager[None]], pad_id: int
    ) -> None:
        kinds = set(getattr(text_config(hf_model.config), "layer_types", None) or ())
        if kinds - _KINDS:
            raise UnsupportedError(
                f"a {type(hf_model).__name__} has layers of the kind {sorted(kinds - _KINDS)[0]!r}, whose memory of a text "
                "cannot be laid beside another's: its rows are answered one after the other"
            )
        self._hf_model, self._alone, self._pad_id = hf_model, alone, pad_id
        self._blocks = list(hf_model.get_submodule(layout.blocks).children())
        self._cache_name = cache_name(hf_model)
        self.rows: list[RunningRow] = []
        self._cache: Any = None
        self._real: PositionMask = torch.zeros(0, 0, dtype=torch.bool)
        self._writes: StackedGraph | None = None

    def admit(self, rows: Sequence[RunningRow]) -> Float[Tensor, "row vocab"]:
        """Run the prompts of rows that come, and put them behind those under way; the logits of their first tokens, float32.

        After an error the rows under way are as they were.
        """
        batch = pad([row.prompt for row in rows], [len(row.prompt) for row in rows], self._pad_id, token_device(self._hf_model))
        # without a config: no layer forgets what slid out of its window, so that columns stay where they are
        inputs = {**batch.inputs, self._cache_name: DynamicCache()}
        outputs = self._call(rows, inputs, _stacked(rows), prefill_masks(batch.spans))
        cache, real = cache_of(outputs), batch.spans.real
        if self.rows:
            width = max(real.shape[1], self._real.shape[1])
            layers = [
                (torch.cat([_widened(old.keys, width), _widened(new.keys, width)]),
                 torch.cat([_widened(old.values, width), _widened(new.values, width)]))
                for old, new in zip(self._cache.layers, cache.layers, strict=True)
            ]  # fmt: skip
            for layer, (keys, values) in zip(self._cache.layers, layers, strict=True):
                layer.keys, layer.values = keys, values
            self._real = torch.cat([_widened_mask(self._real, width), _widened_mask(real, width)])
        else:
            self._cache, self._real = cache, real
        self.rows, self._writes = [*self.rows, *rows], None
        return outputs.logits[:, -1].float()

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "row vocab"]:
        """Run the newest token of every row; the logits of the next ones, float32. After an error no row can be gone on with."""
        device = self._real.device
        real = torch.cat([self._real, self._real.new_ones(len(self.rows), 1)], dim=1)
        inputs = {
            "input_ids": torch.tensor(list(tokens), device=device).unsqueeze(1),
            "attention_mask": real.long(),
            "position_ids": self._real.sum(dim=1, keepdim=True),
            self._cache_name: self._cache,
        }
        if self._writes is None:
            self._writes = _stacked(self.rows)
        for row in self.rows:
            row.n_answer += 1
        steps = torch.tensor([[row.n_answer] for row in self.rows], device=device)
        outputs = self._call(self.rows, inputs, self._writes, answering_masks(steps))
        self._cache, self._real = cache_of(outputs), real
        return outputs.logits[:, -1].float()

    def keep(self, places: Sequence[int]) -> None:
        """Let go of all rows but those at `places`, ascending."""
        if len(places) == len(self.rows):
            return
        self.rows, self._writes = [self.rows[place] for place in places], None
        if not places:
            self._cache, self._real = None, self._real[:0]
            return
        index = torch.tensor(list(places), device=self._real.device)
        real = self._real[index]
        first = int(real.any(dim=0).long().argmax())  # columns before it are pads in every row that stays
        self._real = real[:, first:]
        for layer in self._cache.layers:
            own = index.to(layer.keys.device)
            layer.keys, layer.values = layer.keys[own, :, first:], layer.values[own, :, first:]

    def clear(self) -> None:
        """Let go of every row, as after an error."""
        self.keep(())

    def _call(self, rows: Sequence[RunningRow], inputs: Mapping[str, Any], writes: StackedGraph, masks: CallMasks) -> Any:
        watched: dict[int, list[RunningRow]] = {}
        places = {id(row): place for place, row in enumerate(rows)}
        for row in rows:
            for layer in row.watched:
                watched.setdefault(layer, []).append(row)

        def apply(layer: int, resid: Residual) -> Residual:
            resid = writes.apply(layer, resid, masks)
            for row in watched.get(layer, ()):
                newest = resid[places[id(row)], -1].float()
                row.readings.setdefault(layer, []).append((row.watched[layer].to(newest.device) @ newest).cpu())
            return resid

        layers = {*writes.layers(masks), *watched}
        with self._alone(), hooked(self._blocks, layers, apply):
            return self._hf_model(**inputs, use_cache=True, logits_to_keep=1)


def _stacked(rows: Sequence[RunningRow]) -> StackedGraph:
    """The graphs of all rows as one, each for its own row."""
    nodes: list[Write] = []
    for place, row in enumerate(rows):
        nodes += [replace(write, rows=(place,)) for write in row.graph.writes]
    return stack_writes(InterventionGraph(tuple(nodes)), len(rows))


def _widened(states: Tensor, width: int) -> Tensor:
    """Keys or values ``[row head pos size]`` with columns of zeros before them, which no token sees."""
    return F.pad(states, (0, 0, width - states.shape[2], 0))


def _widened_mask(real: Bool[Tensor, "row pos"], width: int) -> Bool[Tensor, "row width"]:
    return F.pad(real, (width - real.shape[1], 0))
