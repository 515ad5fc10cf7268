"""What `Capture` nodes collect while a model runs: running sums or single positions, call by call, row by row.

A call of the model is read between `begin` and `end`; in between `read` is given each block's output in execution order. Means
are running sums in float32, so memory does not grow with the length of an answer. A call may hold some rows of the batch alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_interp.interventions.graph import Capture
from persona_interp.interventions.positions import Spans
from persona_interp.shapes import PositionMask, Residual

ReadValues: TypeAlias = tuple[Tensor | None, Tensor | None, list[tuple[Tensor, Tensor, Sequence[int] | None]]]
"""Sums ``[layer batch d_model]``, of norms ``[layer batch 1]``; counts ``[batch]``; what is kept of each call:
``[layer row pos d_model]``, mask, and which rows these are, None for all."""

Captured: TypeAlias = Mapping[Capture, Tensor]
"""What captures read of one row; those that found nothing to read are absent."""


class Readout:
    """The results of one `Capture` for one batch.

    Args:
        capture: what to read.
        n_layers: blocks of the model.
        n_rows: of the batch; may be left out where every call holds all of them.
    """

    # on the class: NDIF is sent functions with what their bodies name, and has no jaxtyping
    _mask: PositionMask | None
    _rows: Sequence[int] | None
    _columns: Tensor | None
    _sum: Float[Tensor, "layer batch d_model"] | None
    _count: Int[Tensor, " batch"] | None
    _kept: list[tuple[Tensor, Tensor, Sequence[int] | None]]

    def __init__(self, capture: Capture, n_layers: int, n_rows: int | None = None) -> None:
        self.capture = capture
        self.layers = frozenset(capture.layers_of(n_layers))
        self._n_rows = n_rows
        self._mask = self._rows = self._columns = None
        self._parts: list[Tensor] = []
        self._sum = None
        self._count = None
        self._kept = []

    @property
    def while_generating(self) -> bool:
        """Whether answer tokens are read."""
        return self.capture.positions in ("all", "answer")

    @property
    def is_open(self) -> bool:
        """Whether something of the call under way is read."""
        return self._mask is not None

    def begin(self, mask: PositionMask | None, rows: Sequence[int] | None = None) -> None:
        """Open a call of which the positions in `mask` are read; None: nothing of it is. It holds `rows` of the batch, or all."""
        self._mask, self._rows, self._parts, self._columns = mask, rows, [], None
        if mask is not None and mask.shape[1] > 1 and self.capture.reduction == "none":
            self._columns = mask.any(dim=0).nonzero().squeeze(1)  # of the others nothing need be kept

    def read(self, layer: int, resid: Residual) -> None:
        """Take what is needed from the output of block `layer`."""
        if layer not in self.layers or self._mask is None:
            return
        if self.capture.reduction == "none":
            if self._columns is not None:
                resid = resid.index_select(1, self._columns.to(resid.device))
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
            mask = self._mask if self._columns is None else self._mask.index_select(1, self._columns)
            self._kept.append((torch.stack(self._parts), mask.cpu(), self._rows))
        else:
            device = self._parts[0].device
            total = torch.stack([part.to(device) for part in self._parts]).float()
            mask = self._mask.to(device)
            if mask.shape[1] == 1:
                total = torch.where(mask[:, 0].view(1, -1, 1), total, 0)
            self._add(total, mask.sum(dim=1))
        self._mask, self._parts = None, []

    def _add(self, total: Tensor, count: Tensor) -> None:
        if self._rows is None:
            self._sum = total if self._sum is None else self._sum + total
            self._count = count if self._count is None else self._count + count
            return
        if self._sum is None or self._count is None:
            n_rows = max(self._rows) + 1 if self._n_rows is None else self._n_rows
            self._sum, self._count = total.new_zeros(len(total), n_rows, total.shape[2]), count.new_zeros(n_rows)
        where = torch.tensor(list(self._rows), device=total.device)
        self._sum.index_add_(1, where, total)
        self._count.index_add_(0, where, count)

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
            pieces: list[Tensor] = []
            for kept, mask, rows in self._kept:
                if rows is None or row in rows:
                    place = row if rows is None else rows.index(row)
                    pieces.append(kept[:, place][:, mask[place]])
            if not pieces or not sum(piece.shape[1] for piece in pieces):
                return None
            read = torch.cat(pieces, dim=1)
            return read[:, 0].clone() if self.capture.positions == "prompt_last" else read
        if self._sum is None or self._count is None or not int(self._count[row]):
            return None
        return (self._sum[:, row] / self._count[row]).cpu()


class Readouts:
    """Every `Capture` of a graph, for one batch."""

    def __init__(self, captures: Iterable[Capture], n_layers: int, n_rows: int | None = None) -> None:
        self._readouts = [Readout(capture, n_layers, n_rows) for capture in captures]

    def layers(self, *, generating: bool) -> frozenset[int]:
        """The blocks to be read in a prefill, or in the calls of generation after it."""
        active = [readout for readout in self._readouts if readout.while_generating or not generating]
        return frozenset[int]().union(*(readout.layers for readout in active))

    @property
    def open_layers(self) -> frozenset[int]:
        """The blocks of which the call under way is read."""
        return frozenset[int]().union(*(readout.layers for readout in self._readouts if readout.is_open))

    @property
    def deepest(self) -> int | None:
        """The last block that any capture reads; None: there is none."""
        return max((max(readout.layers) for readout in self._readouts), default=None)

    def begin_prefill(self, spans: Spans, rows: Sequence[int] | None = None) -> None:
        """Open a call that holds whole rows or whole prompts. Prompts without answers are not kept for those who read answers.

        Args:
            spans: of the call; where it holds pieces of rows, prompts may end before or behind it.
            rows: the rows of the batch it holds; None: all of them.
        """
        for readout in self._readouts:
            mask = spans.reading(readout.capture.positions)
            readout.begin(mask if bool(mask.any()) else None, rows)

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
        for readout, found in zip(self._readouts, values, strict=True):
            readout.take(found)

    def result(self, row: int) -> dict[Capture, Tensor]:
        """What each capture read of `row`; captures that found nothing to read are absent."""
        results = ((readout.capture, readout.result(row)) for readout in self._readouts)
        return {capture: value for capture, value in results if value is not None}
