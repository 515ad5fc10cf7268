"""What `Capture` nodes collect while a model runs: running sums or single positions, call by call, row by row.

A call of the model is read between `begin` and `end`; in between `read` is given each block's output in execution order. Means
are running sums in float32, so memory does not grow with the length of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_interp.interventions.graph import Capture
from persona_interp.interventions.positions import Spans
from persona_interp.shapes import PositionMask, Residual

ReadValues: TypeAlias = tuple[Tensor | None, Tensor | None, list[tuple[Tensor, Tensor]]]
"""Sums ``[layer batch d_model]``, of norms ``[layer batch 1]``; counts ``[batch]``; what is kept of each call:
``[layer batch pos d_model]`` and mask."""


class Readout:
    """The results of one `Capture` for one batch.

    Args:
        capture: what to read.
        n_layers: blocks of the model.
    """

    # on the class: NDIF is sent functions with what their bodies name, and has no jaxtyping
    _mask: PositionMask | None
    _sum: Float[Tensor, "layer batch d_model"] | None
    _count: Int[Tensor, " batch"] | None
    _kept: list[tuple[Tensor, Tensor]]

    def __init__(self, capture: Capture, n_layers: int) -> None:
        self.capture = capture
        self.layers = frozenset(capture.layers_of(n_layers))
        self._mask = None
        self._parts: list[Tensor] = []
        self._sum = None
        self._count = None
        self._kept = []

    @property
    def while_generating(self) -> bool:
        """Whether answer tokens are read."""
        return self.capture.positions in ("all", "answer")

    def begin(self, mask: PositionMask | None) -> None:
        """Open a call of which the positions in `mask` are read; None: nothing of it is."""
        self._mask, self._parts = mask, []

    def read(self, layer: int, resid: Residual) -> None:
        """Take what is needed from the output of block `layer`."""
        if layer not in self.layers or self._mask is None:
            return
        if self.capture.reduction == "none":
            self._parts.append(resid.detach().cpu())
            return
        if self.capture.reduction == "norm":
            resid = torch.linalg.vector_norm(resid, dim=-1, keepdim=True, dtype=torch.float32)
        if resid.shape[1] == 1:
            self._parts.append(resid.detach()[:, 0])
        else:
            mask = self._mask.to(resid.device).unsqueeze(-1)
            # where, not a product: whatever a model computes at a pad, even NaN, stays out
            self._parts.append(torch.where(mask, resid.detach(), 0).sum(dim=1, dtype=torch.float32))

    def end(self) -> None:
        """Close the call and add it to what was read before."""
        if self._mask is None or not self._parts:
            return
        if self.capture.reduction == "none":
            self._kept.append((torch.stack(self._parts), self._mask.cpu()))
        else:
            device = self._parts[0].device
            total = torch.stack([part.to(device) for part in self._parts]).float()
            mask = self._mask.to(device)
            if mask.shape[1] == 1:
                total = torch.where(mask[:, 0].view(1, -1, 1), total, 0)
            count = mask.sum(dim=1)
            self._sum = total if self._sum is None else self._sum + total
            self._count = count if self._count is None else self._count + count
        self._mask, self._parts = None, []

    def values(self) -> ReadValues:
        """All that has been read so far, see `take`."""
        return self._sum, self._count, self._kept

    def take(self, values: ReadValues) -> None:
        """Go on from `values`."""
        self._sum, self._count, self._kept = values

    def result(self, row: int) -> Tensor | None:
        """What was read of `row`, on the CPU: ``[layer d_model]``, of norms ``[layer 1]``, unreduced ``[layer pos d_model]``.

        None where the row has no such position: an answer of a single token has none that can be read.
        """
        if self.capture.reduction == "none":
            pieces = [kept[:, row][:, mask[row]] for kept, mask in self._kept]
            if not pieces or not sum(piece.shape[1] for piece in pieces):
                return None
            read = torch.cat(pieces, dim=1)
            return read[:, 0].clone() if self.capture.positions == "prompt_last" else read
        if self._sum is None or self._count is None or not int(self._count[row]):
            return None
        return (self._sum[:, row] / self._count[row]).cpu()


class Readouts:
    """Every `Capture` of a graph, for one batch."""

    def __init__(self, captures: Iterable[Capture], n_layers: int) -> None:
        self._readouts = [Readout(capture, n_layers) for capture in captures]
        self._source: Callable[[], Sequence[ReadValues]] | None = None

    def layers(self, *, generating: bool) -> frozenset[int]:
        """The blocks to be read in a prefill, or in the calls of generation after it."""
        active = [readout for readout in self._readouts if readout.while_generating or not generating]
        return frozenset[int]().union(*(readout.layers for readout in active))

    def begin_prefill(self, spans: Spans) -> None:
        """Open a call that holds whole rows or whole prompts. Prompts without answers are not kept for those who read answers."""
        for readout in self._readouts:
            mask = spans.reading(readout.capture.positions)
            readout.begin(mask if bool(mask.any()) else None)

    def begin_token(self, mask: PositionMask) -> None:
        """Open a call that holds one answer token a row, read where `mask` ``[batch 1]`` says so."""
        for readout in self._readouts:
            if readout.while_generating:
                readout.begin(mask)

    def read(self, layer: int, resid: Residual) -> None:
        """Offer the output of block `layer` to every capture."""
        for readout in self._readouts:
            readout.read(layer, resid)

    def end(self) -> None:
        """Close the call."""
        for readout in self._readouts:
            readout.end()

    def values(self) -> list[ReadValues]:
        """What has been read, as plain containers of tensors: all that can travel back from a remote run."""
        return [readout.values() for readout in self._readouts]

    def take(self, values: Sequence[ReadValues]) -> None:
        """Take over what the same captures have read elsewhere: after a remote run the results come back as copies."""
        self._source = None
        for readout, found in zip(self._readouts, values, strict=True):
            readout.take(found)

    def follow(self, source: Callable[[], Sequence[ReadValues]]) -> None:
        """Let results asked for meanwhile come from `source`, for an engine that collects by itself and hands over at the end."""
        self._source = source

    def result(self, row: int) -> dict[Capture, Tensor]:
        """What each capture read of `row`; captures that found nothing to read are absent."""
        if self._source is not None:
            for readout, found in zip(self._readouts, self._source(), strict=True):
                readout.take(found)
        results = ((readout.capture, readout.result(row)) for readout in self._readouts)
        return {capture: value for capture, value in results if value is not None}
