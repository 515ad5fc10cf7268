"""The arithmetic every engine shares: the writes of a graph, stacked into as few tensor operations as possible.

Writes at one layer with the same kinds of operation and condition, the same positions and different rows become one operation,
whose direction, coefficient, numbers and condition differ by row, so a batch in which each row is steered differently costs one
operation a layer.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from persona_interp.interventions.conditions import Condition
from persona_interp.interventions.directed import Directed
from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Operation
from persona_interp.interventions.positions import CallMasks
from persona_interp.interventions.schedules import Schedule
from persona_interp.shapes import PositionMask, Residual


@dataclass(frozen=True)
class StackedCondition:
    """The conditions of several writes, one a row or one for every row."""

    condition: type[Condition]
    direction: Float[Tensor, "stack 1 d_model"]
    scalars: Mapping[str, Float[Tensor, "stack 1 1"]]

    def to(self, device: torch.device) -> StackedCondition:
        """The same with its tensors on `device`."""
        return replace(self, direction=self.direction.to(device), scalars=_moved(self.scalars, device))

    def holds(self, resid: Residual) -> PositionMask:
        """Where each row's condition holds."""
        return self.condition.holds(resid, self.direction, **self.scalars)


@dataclass(frozen=True)
class StackedSchedule:
    """The schedules of several writes.

    Attributes:
        distinct: the schedules, each once; None is one that changes nothing.
        index: which of them a row follows, or one for every row.
    """

    distinct: tuple[Schedule | None, ...]
    index: Int[Tensor, " stack"]

    def to(self, device: torch.device) -> StackedSchedule:
        """The same with its tensor on `device`."""
        return replace(self, index=self.index.to(device))

    def factors(self, steps: int | Int[Tensor, "batch pos"], like: Tensor) -> Float[Tensor, "any_batch any_pos 1"]:
        """What coefficients of the dtype of `like` are multiplied by at these steps, by row and position."""
        if isinstance(steps, int):
            return self._table((steps,), like)[self.index].unsqueeze(-1)
        steps = steps.to(like.device)
        table = self._table(range(int(steps.max()) + 1), like)
        return table[self.index.unsqueeze(1), steps].unsqueeze(-1)

    def _table(self, steps: Sequence[int], like: Tensor) -> Float[Tensor, "schedule step"]:
        rows = [[1.0 if schedule is None else schedule.factor(step) for step in steps] for schedule in self.distinct]
        return torch.tensor(rows, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class StackedWrite:
    """Several writes of one layer as one operation.

    Attributes:
        operation: the class whose `transform` is applied.
        direction: per row, or one for every row.
        coefficient: per row, or one for every row.
        scalars: the numbers of the operation, likewise.
        rows: which rows are written; None for every row.
        condition: where they are written besides; None: wherever the positions are.
        schedule: how coefficients change by step; None: not at all.
    """

    operation: type[Operation]
    positions: WritePositions
    direction: Float[Tensor, "stack 1 d_model"]
    coefficient: Float[Tensor, "stack 1 1"]
    scalars: Mapping[str, Float[Tensor, "stack 1 1"]]
    rows: Bool[Tensor, " stack"] | None
    condition: StackedCondition | None = None
    schedule: StackedSchedule | None = None

    def to(self, device: torch.device) -> StackedWrite:
        """The same write with its tensors on `device`."""
        return replace(
            self,
            direction=self.direction.to(device),
            coefficient=self.coefficient.to(device),
            scalars=_moved(self.scalars, device),
            rows=None if self.rows is None else self.rows.to(device),
            condition=None if self.condition is None else self.condition.to(device),
            schedule=None if self.schedule is None else self.schedule.to(device),
        )

    def apply(self, resid: Residual, masks: CallMasks) -> Residual:
        """The residual stream after the write, at the rows and positions it means; bit-identical elsewhere."""
        mask = masks(self.positions)
        if mask is False:
            return resid
        coefficient = self.coefficient
        if self.schedule is not None:
            coefficient = coefficient * self.schedule.factors(masks.steps, coefficient)
        written = self.operation.transform(resid, self.direction, coefficient, **self.scalars)
        touched = [mask.to(resid.device)] if isinstance(mask, Tensor) else []
        if self.rows is not None:
            touched.append(self.rows.view(-1, 1))
        if self.condition is not None:
            touched.append(self.condition.holds(resid))
        if not touched:
            return written
        where = touched[0]
        for other in touched[1:]:
            where = where & other
        return torch.where(where.unsqueeze(-1), written, resid)

    def at(self, rows: Int[Tensor, " token"], steps: Int[Tensor, " token"]) -> StackedWrite:
        """The write at single tokens, each a row of its own: those of `rows` at `steps`, all of them written.

        What is the same for all tokens is kept once.
        """
        alike = self.schedule is None and bool((rows == rows[0]).all())
        index = rows[:1] if alike else rows
        coefficient = self.coefficient[index]
        if self.schedule is not None:
            own = replace(self.schedule, index=self.schedule.index[rows])
            coefficient = coefficient * own.factors(steps.unsqueeze(1), coefficient)
        condition = self.condition
        return replace(
            self,
            direction=self.direction[index],
            coefficient=coefficient,
            scalars={name: value[index] for name, value in self.scalars.items()},
            rows=None,
            condition=condition
            and replace(
                condition,
                direction=condition.direction[index],
                scalars={name: value[index] for name, value in condition.scalars.items()},
            ),
            schedule=None,
        )


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
            self._placed[key] = tuple(write.to(resid.device) for write in self.by_layer.get(layer, ()))
        for write in self._placed[key]:
            resid = write.apply(resid, masks)
        return resid


def stack_writes(graph: InterventionGraph, n_rows: int) -> StackedGraph:
    """Compile the writes of `graph` for a batch of `n_rows`."""
    by_layer: dict[int, list[Write]] = {}
    for write in graph.writes:
        by_layer.setdefault(write.layer, []).append(write)
    return StackedGraph({layer: tuple(_stack(group, n_rows) for group in _groups(writes)) for layer, writes in by_layer.items()})


def stack_by_row(graphs: Sequence[InterventionGraph]) -> StackedGraph:
    """Compile a graph for each row: row i is written to by all of ``graphs[i]``, whatever rows its writes name.

    The work grows with the number of writes, not with its square, so a row may also stand for one of many users.
    """
    by_layer: dict[int, dict[tuple[int, Hashable], list[Write]]] = {}
    for row, graph in enumerate(graphs):
        places: dict[int, int] = {}
        for write in graph.writes:
            places[write.layer] = place = places.get(write.layer, -1) + 1
            own = replace(write, rows=(row,))
            by_layer.setdefault(write.layer, {}).setdefault((place, _key(own)), []).append(own)
    # the first writes of all rows, then the second ones: each row sees its own in their order
    return StackedGraph(
        {
            layer: tuple(_stack(groups[key], len(graphs)) for key in sorted(groups, key=lambda key: key[0]))
            for layer, groups in by_layer.items()
        }
    )


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
    return _key(group[0]) == _key(write) and all(_disjoint(other, write) for other in group)


def _key(write: Write) -> Hashable:
    """Equal for writes that one operation can do."""
    condition = None if write.condition is None else (type(write.condition), _dtype(write.condition))
    return type(write.operation), _dtype(write.operation), write.positions, condition


def _dtype(directed: Directed) -> torch.dtype:
    return torch.promote_types(directed.direction.dtype, torch.float32)  # a product in half precision could overflow


def _disjoint(left: Write, right: Write) -> bool:
    return left.rows is not None and right.rows is not None and not set(left.rows) & set(right.rows)


def _stack(group: list[Write], n_rows: int) -> StackedWrite:
    first = group[0]
    written = [slice(None) if write.rows is None else torch.tensor(write.rows) for write in group]
    size = 1 if first.rows is None else n_rows
    direction, scalars = _stack_directed([write.operation for write in group], written, size)
    coefficient = torch.zeros(size, 1, 1, dtype=direction.dtype)
    rows = torch.zeros(size, dtype=torch.bool)
    for write, index in zip(group, written, strict=True):
        coefficient[index] = write.coefficient
        rows[index] = True
    return StackedWrite(
        type(first.operation),
        first.positions,
        direction,
        coefficient,
        scalars,
        None if first.rows is None else rows,
        _stack_conditions(group, written, size),
        _stack_schedules(group, written, size),
    )


def _stack_directed(
    parts: Sequence[Directed], written: Sequence[slice | Int[Tensor, " _"]], size: int
) -> tuple[Float[Tensor, "stack 1 d_model"], dict[str, Float[Tensor, "stack 1 1"]]]:
    """Directions and numbers, each at the rows that are its own."""
    dtype, d_model = _dtype(parts[0]), parts[0].direction.shape[-1]
    directions = torch.zeros(size, 1, d_model, dtype=dtype)
    scalars = {name: torch.zeros(size, 1, 1, dtype=dtype) for name in parts[0].scalars()}
    for part, index in zip(parts, written, strict=True):
        directions[index] = part.direction.detach().to(directions).view(1, 1, -1)
        for name, value in part.scalars().items():
            scalars[name][index] = value
    return directions, scalars


def _stack_conditions(group: Sequence[Write], written: Sequence[slice | Int[Tensor, " _"]], size: int) -> StackedCondition | None:
    conditions = [write.condition for write in group if write.condition is not None]  # of one group all have one, or none
    if not conditions:
        return None
    return StackedCondition(type(conditions[0]), *_stack_directed(conditions, written, size))


def _stack_schedules(group: Sequence[Write], written: Sequence[slice | Int[Tensor, " _"]], size: int) -> StackedSchedule | None:
    if all(write.schedule is None for write in group):
        return None
    distinct = tuple(dict.fromkeys(write.schedule for write in group))
    index_of = torch.zeros(size, dtype=torch.long)
    for write, index in zip(group, written, strict=True):
        index_of[index] = distinct.index(write.schedule)
    return StackedSchedule(distinct, index_of)


def _moved(scalars: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in scalars.items()}
