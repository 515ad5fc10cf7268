"""`InterventionGraph`: a frozen description of what is written into and read from the residual stream of a model.

Layers are 0-based block indices, and every node works on *the output of that block*. Steering and extraction are the same kind
of thing: `Write` nodes change the stream, `Capture` nodes read it, and a `Capture` sees what the `Write` nodes of its layer and
of earlier layers made of it. Nothing here knows an engine; the compilers do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.interventions.conditions import CONDITIONS, Condition
from persona_interp.interventions.json_fields import indices, number
from persona_interp.interventions.operations import Operation, operation_from_json
from persona_interp.interventions.schedules import SCHEDULES, Schedule
from persona_interp.interventions.validation import check_choice, check_coefficient, check_directed, check_layer

FORMAT_VERSION = 1

WritePositions: TypeAlias = Literal["all", "prompt", "response"]
ReadPositions: TypeAlias = Literal["all", "prompt", "prompt_last", "answer"]
Reduction: TypeAlias = Literal["none", "mean", "norm"]


@dataclass(frozen=True)
class Write:
    """Apply `operation` to the output of block `layer`.

    Attributes:
        layer: 0-based block index.
        operation: what to do, for example `Add(direction)`.
        coefficient: multiplies the direction as it is (the paper's convention); for `Ablate`, `Clamp` and `Cap`, how much of the
            change is made, from 0 to 1.
        positions: ``all`` tokens; ``prompt``: prompt tokens only; ``response``: from the last prompt token on, because that token
            predicts the first one of the answer. Pads are never touched.
        rows: indices into the rows of the call, None for every row.
        condition: write only at those of the rows and positions where it holds, asked of the residual as the writes before this
            one leave it; None: at all of them.
        schedule: a factor of the coefficient for each step of generation; None: the same at every step.
    """

    layer: int
    operation: Operation
    coefficient: float = 1.0
    positions: WritePositions = "all"
    rows: tuple[int, ...] | None = None
    condition: Condition | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        check_choice("positions of a Write", self.positions, get_args(WritePositions))
        if self.rows is not None:
            if not self.rows:
                raise InvalidInputError("rows of a Write is empty: use None for every row, or leave the Write out")
            if len(set(self.rows)) != len(self.rows) or min(self.rows) < 0:
                raise InvalidInputError(f"rows of a Write must be different indices from 0 on, got {self.rows}")

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact. What is not used is left out, so that graphs keep the fingerprints they always had."""
        data: dict[str, Any] = {
            "node": "write",
            "layer": self.layer,
            "operation": self.operation.to_json(),
            "coefficient": float(self.coefficient),
            "positions": self.positions,
            "rows": None if self.rows is None else list(self.rows),
        }
        if self.condition is not None:
            data["condition"] = self.condition.to_json()
        if self.schedule is not None:
            data["schedule"] = self.schedule.to_json()
        return data


@dataclass(frozen=True)
class Capture:
    """Read the output of blocks. A Capture is also the key under which its result is returned.

    Attributes:
        positions: ``all``, ``prompt``, ``prompt_last``, or ``answer`` tokens. The last answer token is never read: while
            generating it never passes through the model.
        reduction: ``mean`` over the positions (float32), ``norm``: mean of their Euclidean norms (float32, a number a block), or
            ``none``: every position (the model's dtype).
        layers: 0-based block indices in ascending order, None for every block.
    """

    positions: ReadPositions
    reduction: Reduction = "mean"
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("positions of a Capture", self.positions, get_args(ReadPositions))
        check_choice("reduction of a Capture", self.reduction, get_args(Reduction))
        if self.layers is not None and (not self.layers or list(self.layers) != sorted(set(self.layers))):
            raise InvalidInputError(f"layers of a Capture must be different block indices in ascending order, got {self.layers}")

    def layers_of(self, n_layers: int) -> tuple[int, ...]:
        """The blocks it reads in a model of `n_layers`."""
        return tuple(range(n_layers)) if self.layers is None else self.layers

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact."""
        layers = None if self.layers is None else list(self.layers)
        return {"node": "capture", "positions": self.positions, "reduction": self.reduction, "layers": layers}


Node: TypeAlias = Write | Capture


@dataclass(frozen=True)
class InterventionGraph:
    """Writing and reading nodes, applied in layer order and, within a layer, in the order given (writes before captures).

    Several writes of a layer compose: each works on what the one before it left.

    Example:
        >>> graph = InterventionGraph((Write(layer=12, operation=Add(direction), coefficient=1.5, positions="response"),))
        >>> model.generate([Conversation.ask("How are you?")], graph=graph)
    """

    nodes: tuple[Node, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """The writing nodes, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Write))

    @property
    def captures(self) -> tuple[Capture, ...]:
        """The reading nodes, in order, equal ones once."""
        return tuple(dict.fromkeys(node for node in self.nodes if isinstance(node, Capture)))

    def __add__(self, other: InterventionGraph) -> InterventionGraph:
        return InterventionGraph(self.nodes + other.nodes)

    def for_rows(self, indices: Sequence[int]) -> InterventionGraph:
        """The graph for a sub-batch: row ``i`` of it is row ``indices[i]`` here. Writes left without a row are dropped."""
        nodes: list[Node] = []
        for node in self.nodes:
            if isinstance(node, Write) and node.rows is not None:
                wanted = set(node.rows)
                rows = tuple(place for place, index in enumerate(indices) if index in wanted)
                if rows:
                    nodes.append(replace(node, rows=rows))
            else:
                nodes.append(node)
        return InterventionGraph(tuple(nodes))

    def check(self, *, n_layers: int, d_model: int, n_rows: int | None = None, model_name: str = "the model") -> None:
        """Raise unless the graph can run on a model of this shape.

        Args:
            n_rows: rows of the call; None if they are not known yet.

        Raises:
            IncompatibleError: a layer the model does not have, or a direction of another width.
            InvalidInputError: rows the call does not have, NaN or infinite values, a coefficient its operation cannot work with,
                or a zero direction where one is projected onto.
        """
        for capture in self.captures:
            for layer in capture.layers or ():
                check_layer(layer, n_layers, model_name)
        checked: set[int] = set()
        for write in self.writes:
            check_layer(write.layer, n_layers, model_name)
            check_coefficient(write.layer, write.operation, write.coefficient, write.schedule, model_name)
            parts = (("the direction", write.operation), ("the direction of the condition", write.condition))
            for what, directed in parts:
                if directed is not None and id(directed) not in checked:
                    check_directed(write.layer, what, directed, d_model, model_name)
                    checked.add(id(directed))
        if n_rows is not None:
            self.check_rows(n_rows, model_name=model_name)

    def check_rows(self, n_rows: int, *, model_name: str = "the model") -> None:
        """Raise unless every row the graph names exists in a call of `n_rows`.

        Raises:
            InvalidInputError: a row the call does not have.
        """
        for write in self.writes:
            if write.rows is not None and max(write.rows) >= n_rows:
                raise InvalidInputError(
                    f"a Write at layer {write.layer} names row {max(write.rows)}, but this call of {model_name} has {n_rows} "
                    f"rows (0 to {n_rows - 1}): give rows that exist, or None for every row"
                )

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives an equal graph back, to the last bit."""
        return {"format_version": FORMAT_VERSION, "nodes": [node.to_json() for node in self.nodes]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "intervention graph") -> InterventionGraph:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise FileFormatError(
                f"{source}: format_version {data.get('format_version')!r} is not {FORMAT_VERSION}: it was written by another "
                "version of this package"
            )
        nodes = data.get("nodes")
        if not isinstance(nodes, list):
            raise FileFormatError(f"{source}: field 'nodes' must be a list")
        return cls(tuple(_node_from_json(node, f"{source}, node {place}") for place, node in enumerate(cast(list[Any], nodes))))

    def fingerprint(self) -> str:
        """sha256 of the JSON form: equal graphs have equal fingerprints, on any machine."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _node_from_json(data: Any, source: str) -> Node:
    try:
        if data["node"] == "write":
            return _write_from_json(data, source)
        if data["node"] == "capture":
            return Capture(data["positions"], data["reduction"], indices(data, "layers"))
    except KeyError as error:
        raise FileFormatError(f"{source}: field {error} is missing") from error
    except (TypeError, AttributeError, InvalidInputError) as error:
        raise FileFormatError(f"{source}: not a node ({error})") from error
    raise FileFormatError(f"{source}: 'node' is {data['node']!r}, expected 'write' or 'capture'")


def _write_from_json(data: Any, source: str) -> Write:
    condition, schedule = data.get("condition"), data.get("schedule")  # files made before there were any do not name them
    return Write(
        layer=number(data, "layer", int),
        coefficient=number(data, "coefficient", int, float),
        rows=indices(data, "rows"),
        operation=operation_from_json(data["operation"], source=source),
        positions=data["positions"],
        condition=None if condition is None else CONDITIONS.from_json(condition, source=source),
        schedule=None if schedule is None else SCHEDULES.from_json(schedule, source=source),
    )
