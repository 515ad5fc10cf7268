"""The arithmetic every engine shares: the writes of a graph, stacked into as few tensor operations as possible.

Writes at one layer with the same operation kind and positions and with different rows become one operation whose direction and
coefficient differ by row, so a batch in which each row is steered differently costs one addition a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Operation
from persona_interp.interventions.positions import CallMasks, Everywhere
from persona_interp.shapes import PositionMask, Residual


@dataclass(frozen=True)
class StackedWrite:
    """Several writes of one layer as one operation.

    Attributes:
        operation: the class whose `transform` is applied.
        direction: per row, or one for every row.
        coefficient: per row, or one for every row.
        rows: which rows are written; None for every row.
    """

    operation: type[Operation]
    positions: WritePositions
    direction: Float[Tensor, "stack 1 d_model"]
    coefficient: Float[Tensor, "stack 1 1"]
    rows: Bool[Tensor, " stack"] | None

    def to(self, device: torch.device) -> StackedWrite:
        """The same write with its tensors on `device`."""
        rows = None if self.rows is None else self.rows.to(device)
        return StackedWrite(self.operation, self.positions, self.direction.to(device), self.coefficient.to(device), rows)

    def apply(self, resid: Residual, mask: PositionMask | Everywhere) -> Residual:
        """The residual stream after the write, at the rows and positions it means; bit-identical elsewhere."""
        if mask is False:
            return resid
        written = self.operation.transform(resid, self.direction, self.coefficient)
        if self.rows is None:
            return written if mask is True else torch.where(mask.unsqueeze(-1), written, resid)
        rows = self.rows.view(-1, 1)
        touched = rows if mask is True else rows & mask
        return torch.where(touched.unsqueeze(-1), written, resid)


@dataclass(frozen=True)
class StackedGraph:
    """The writes of a graph by layer, ready to be applied to whole batches."""

    by_layer: Mapping[int, tuple[StackedWrite, ...]]
    _placed: dict[tuple[int, torch.device], tuple[StackedWrite, ...]] = field(default_factory=dict, repr=False)

    def layers(self, masks: CallMasks) -> tuple[int, ...]:
        """The layers a call with these masks changes, ascending; others need not be touched."""
        return tuple(
            layer for layer in sorted(self.by_layer) if any(masks(write.positions) is not False for write in self.by_layer[layer])
        )

    def apply(self, layer: int, resid: Residual, masks: CallMasks) -> Residual:
        """The residual stream after the writes of `layer`, in the order of the graph."""
        key = (layer, resid.device)
        if key not in self._placed:
            self._placed[key] = tuple(write.to(resid.device) for write in self.by_layer[layer])
        for write in self._placed[key]:
            mask = masks(write.positions)
            resid = write.apply(resid, mask if isinstance(mask, bool) else mask.to(resid.device))
        return resid


def stack_writes(graph: InterventionGraph, n_rows: int) -> StackedGraph:
    """Compile the writes of `graph` for a batch of `n_rows`."""
    by_layer: dict[int, list[Write]] = {}
    for write in graph.writes:
        by_layer.setdefault(write.layer, []).append(write)
    return StackedGraph({layer: tuple(_stack(group, n_rows) for group in _groups(writes)) for layer, writes in by_layer.items()})


def _groups(writes: list[Write]) -> list[list[Write]]:
    """Writes of one layer, grouped where they can run as one operation without changing what any row sees in which order."""
    groups: list[list[Write]] = []
    for write in writes:
        for place in range(len(groups) - 1, -1, -1):
            if _stackable(groups[place], write):
                groups[place].append(write)
                break
            if not all(_disjoint(other, write) for other in groups[place]):
                groups.append([write])  # must come after that group: they share rows
                break
        else:
            groups.append([write])
    return groups


def _stackable(group: list[Write], write: Write) -> bool:
    first = group[0]
    same = first.operation.kind == write.operation.kind and first.positions == write.positions
    return same and _dtype(first) == _dtype(write) and all(_disjoint(other, write) for other in group)


def _dtype(write: Write) -> torch.dtype:
    return torch.promote_types(write.operation.direction.dtype, torch.float32)  # a product in half precision could overflow


def _disjoint(left: Write, right: Write) -> bool:
    return left.rows is not None and right.rows is not None and not set(left.rows) & set(right.rows)


def _stack(group: list[Write], n_rows: int) -> StackedWrite:
    first = group[0]
    operation, direction = type(first.operation), first.operation.direction.detach().to(_dtype(first))
    if first.rows is None:
        coefficient = torch.full((1, 1, 1), first.coefficient, dtype=direction.dtype)
        return StackedWrite(operation, first.positions, direction.view(1, 1, -1), coefficient, None)
    directions = torch.zeros(n_rows, 1, direction.shape[-1], dtype=direction.dtype)
    coefficients = torch.zeros(n_rows, 1, 1, dtype=direction.dtype)
    rows = torch.zeros(n_rows, dtype=torch.bool)
    for write in group:
        index = torch.tensor(write.rows)
        directions[index] = write.operation.direction.detach().to(directions).view(1, 1, -1)
        coefficients[index] = write.coefficient
        rows[index] = True
    return StackedWrite(operation, first.positions, directions, coefficients, rows)
