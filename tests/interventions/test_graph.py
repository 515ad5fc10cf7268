from __future__ import annotations

import json

import pytest
import torch

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, UnknownNameError
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import (
    OPERATIONS,
    Ablate,
    AblateThenAdd,
    Add,
    AddPreservingNorm,
    Cap,
    Clamp,
    register_operation,
)
from persona_interp.interventions.schedules import ExponentialDecay, LinearRamp, StepTable


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_graph_comes_back_from_json_to_the_last_bit(dtype: torch.dtype) -> None:
    direction = (torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-3).to(dtype)
    graph = InterventionGraph(
        (
            Write(3, Add(direction), 0.1 + 0.2, "response", (0, 4)),
            Write(0, Add(-direction), -1),
            Capture("answer"),
            Capture("all", "none", (1, 3)),
        )
    )
    back = InterventionGraph.from_json(json.loads(json.dumps(graph.to_json())))
    assert back == graph
    assert back.fingerprint() == graph.fingerprint()
    first = back.writes[0]
    assert first.operation.direction.dtype == dtype
    assert torch.equal(first.operation.direction, direction)
    assert first.coefficient == 0.1 + 0.2


OLD_FILE = """{"format_version": 1, "nodes": [
    {"node": "write", "layer": 3, "operation": {"kind": "add", "direction": {"dtype": "float32", "values": [0.5, -1.25, 3.0]}},
     "coefficient": 1.5, "positions": "response", "rows": [0, 2]},
    {"node": "write", "layer": 1, "operation": {"kind": "add", "direction": {"dtype": "float16", "values": [1.0, 2.0]}},
     "coefficient": 1.0, "positions": "all", "rows": null},
    {"node": "capture", "positions": "answer", "reduction": "none", "layers": [1, 3]}]}"""


def test_files_made_before_there_were_conditions_still_load_and_keep_their_fingerprint() -> None:
    """Caches are keyed by it; the digest was taken then."""
    graph = InterventionGraph.from_json(json.loads(OLD_FILE))
    assert graph.to_json() == json.loads(OLD_FILE)
    assert graph.fingerprint() == "4f41cbde89c624cbac6125fd2e95a09e12f96eba593a66c237d126695b0cecfa"
    assert [(write.condition, write.schedule) for write in graph.writes] == [(None, None)] * 2


def test_operations_with_numbers_conditions_and_schedules_come_back_to_the_last_bit() -> None:
    direction, third = torch.randn(5, generator=torch.Generator().manual_seed(0)).bfloat16(), 1 / 3
    graph = InterventionGraph(
        (
            Write(0, Ablate(direction), third, schedule=StepTable((third, 1, 0.1 + 0.2))),
            Write(0, AblateThenAdd(direction), -7, "response", (1, 2), schedule=LinearRamp(-third, 2, 9)),
            Write(1, Clamp(direction, third), condition=ProjectionCondition(direction.double(), 0.1 + 0.2, "below")),
            Write(1, Cap(direction, -third), condition=ProjectionCondition(-direction, third)),
            Write(2, AddPreservingNorm(direction), 2.5, schedule=ExponentialDecay(third)),
        )
    )
    back = InterventionGraph.from_json(json.loads(json.dumps(graph.to_json())))
    assert back == graph
    assert hash(back) == hash(graph)
    assert back.fingerprint() == graph.fingerprint()


def test_fingerprint_tells_what_is_done_where_and_when() -> None:
    direction = vector(1, 2)
    others = (
        Write(1, Add(direction)),
        Write(1, Ablate(direction)),
        Write(1, Clamp(direction, 1.0)),
        Write(1, Cap(direction, 1.0)),
        Write(1, Cap(direction, 1.0 + 1e-15)),
        Write(1, Add(direction), condition=ProjectionCondition(direction, 1.0)),
        Write(1, Add(direction), condition=ProjectionCondition(direction, 1.0, "below")),
        Write(1, Add(direction), condition=ProjectionCondition(-direction, 1.0)),
        Write(1, Add(direction), schedule=LinearRamp(1, 0, 3)),
        Write(1, Add(direction), schedule=LinearRamp(1, 0, 4)),
        Write(1, Add(direction), schedule=StepTable.until(3)),
    )
    assert len({InterventionGraph((other,)).fingerprint() for other in others}) == len(others)


def test_fingerprint_tells_small_differences() -> None:
    graph = InterventionGraph((Write(1, Add(vector(1, 2))),))
    others = (
        Write(1, Add(vector(1, 2 + 2**-20))),
        Write(2, Add(vector(1, 2))),
        Write(1, Add(vector(1, 2)), 1 + 1e-15),
        Write(1, Add(vector(1, 2)), positions="prompt"),
        Write(1, Add(vector(1, 2)), rows=(0,)),
        Write(1, Add(vector(1, 2).double())),
    )
    prints = {InterventionGraph((other,)).fingerprint() for other in others} | {graph.fingerprint()}
    assert len(prints) == len(others) + 1


def test_sub_batch_keeps_each_row_its_writes() -> None:
    every, some, other = Write(0, Add(vector(1))), Write(1, Add(vector(1)), rows=(0, 2)), Write(2, Add(vector(1)), rows=(1,))
    part = InterventionGraph((every, some, other, Capture("all"))).for_rows([2, 3])
    assert part == InterventionGraph((every, Write(1, Add(vector(1)), rows=(0,)), Capture("all")))


def test_sub_batch_keeps_conditions_and_schedules() -> None:
    condition, schedule = ProjectionCondition(vector(1), 2.0, "below"), LinearRamp(1, 0, 3)
    write = Write(1, Clamp(vector(1), 2.0), 0.5, "response", (0, 2), condition, schedule)
    assert InterventionGraph((write,)).for_rows([1, 2]).writes == (
        Write(1, Clamp(vector(1), 2.0), 0.5, "response", (1,), condition, schedule),
    )


def test_graphs_join_and_equal_captures_are_read_once() -> None:
    left, right = (
        InterventionGraph((Capture("all"), Write(0, Add(vector(1))))),
        InterventionGraph((Capture("all"), Capture("answer"))),
    )
    joined = left + right
    assert joined.nodes == left.nodes + right.nodes
    assert joined.captures == (Capture("all"), Capture("answer"))
    assert joined.writes == left.writes


def test_graph_that_fits_passes() -> None:
    graph = InterventionGraph((Write(3, Add(torch.ones(8)), rows=(0, 1)), Capture("all", layers=(0, 3))))
    graph.check(n_layers=4, d_model=8, n_rows=2, model_name="m")


@pytest.mark.parametrize(
    ("node", "error", "message"),
    [
        (Write(4, Add(torch.ones(8))), IncompatibleError, r"layer 4 is out of range: tiny has 4 layers, 0 to 3"),
        (Write(-1, Add(torch.ones(8))), IncompatibleError, r"layer -1 is out of range"),
        (Capture("all", layers=(0, 7)), IncompatibleError, r"layer 7 is out of range"),
        (Write(0, Add(torch.ones(9))), IncompatibleError, r"width 9, but tiny has d_model 8.*transfer"),
        (Write(0, Add(torch.full((8,), torch.nan))), InvalidInputError, r"NaN or infinite values and cannot steer tiny: extract"),
        (Write(0, Add(torch.full((8,), torch.inf))), InvalidInputError, r"NaN or infinite"),
        (Write(0, Add(torch.ones(8)), float("nan")), InvalidInputError, r"coefficient nan at layer 0 .*finite number"),
        (Write(0, Add(torch.ones(8)), 1e39), InvalidInputError, r"coefficient 1e\+39 at layer 0 .*single precision"),
        (
            Write(0, Add(torch.ones(8)), rows=(0, 3)),
            InvalidInputError,
            r"names row 3, but this call of tiny has 3 rows \(0 to 2\)",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_model_and_remedy(node: Write | Capture, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InterventionGraph((node,)).check(n_layers=4, d_model=8, n_rows=3, model_name="tiny")


ONES, ZEROS = torch.ones(8), torch.zeros(8)


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (Write(2, Ablate(ONES), 1.5), InvalidInputError, "coefficient 1.5 of 'ablate' at layer 2 .*0 for none to 1 for all"),
        (Write(2, Clamp(ONES, 1.0), -0.1), InvalidInputError, "coefficient -0.1 of 'clamp' at layer 2 is out of range"),
        (Write(2, Cap(ONES, 1.0), 2), InvalidInputError, "coefficient 2 of 'cap' at layer 2 is out of range"),
        (
            Write(2, Ablate(ONES), 1, schedule=LinearRamp(0, 2, 5)),
            InvalidInputError,
            r"coefficient 1 \(from 0 to 2 under its schedule\) of 'ablate'",
        ),
        (Write(2, Ablate(ZEROS)), InvalidInputError, "direction at layer 2 is zero, .*'ablate' needs another"),
        (Write(2, AblateThenAdd(ZEROS)), InvalidInputError, "direction at layer 2 is zero"),
        (
            Write(2, Clamp(ONES, torch.inf)),
            InvalidInputError,
            "projection inf of 'clamp' at layer 2 cannot steer tiny: give a finite",
        ),
        (Write(2, Cap(ONES, torch.nan)), InvalidInputError, "bound nan of 'cap' at layer 2"),
        (Write(2, Cap(ONES, 1e39)), InvalidInputError, r"bound 1e\+39 of 'cap' .* single precision"),
        (
            Write(2, Add(ONES), 1e38, schedule=StepTable((1.0, 10.0))),
            InvalidInputError,
            "single precision, also when its schedule",
        ),
        (
            Write(2, Add(ONES), condition=ProjectionCondition(torch.ones(9), 1.0)),
            IncompatibleError,
            "direction of the condition at layer 2 has width 9, but tiny has d_model 8",
        ),
        (
            Write(2, Add(ONES), condition=ProjectionCondition(torch.full((8,), torch.nan), 1.0)),
            InvalidInputError,
            "direction of the condition at layer 2 holds NaN",
        ),
        (
            Write(2, Add(ONES), condition=ProjectionCondition(ZEROS, 1.0)),
            InvalidInputError,
            "direction of the condition at layer 2 is zero",
        ),
        (
            Write(2, Add(ONES), condition=ProjectionCondition(ONES, torch.nan)),
            InvalidInputError,
            "threshold nan of 'projection' at layer 2",
        ),
    ],
)
def test_what_an_operation_cannot_work_with_is_refused(write: Write, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InterventionGraph((write,)).check(n_layers=4, d_model=8, model_name="tiny")


def test_coefficients_that_a_schedule_keeps_in_range_pass() -> None:
    nodes = (
        Write(0, Ablate(ONES), 0.5, schedule=LinearRamp(0, 2, 5)),
        Write(1, Ablate(ONES), 0.0),
        Write(1, AblateThenAdd(ONES), -30.0, schedule=LinearRamp(3, -3, 5)),
        Write(1, Add(ZEROS)),
        Write(1, AddPreservingNorm(ZEROS), -2.0),
    )
    InterventionGraph(nodes).check(n_layers=4, d_model=8, model_name="tiny")


def test_nodes_refuse_nonsense() -> None:
    with pytest.raises(InvalidInputError, match="rows of a Write is empty"):
        Write(0, Add(vector(1)), rows=())
    with pytest.raises(InvalidInputError, match="different indices from 0 on"):
        Write(0, Add(vector(1)), rows=(1, 1))
    with pytest.raises(InvalidInputError, match="ascending order"):
        Capture("all", layers=(2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version 99 is not 1"),
        ({"nodes": None}, "'nodes' must be a list"),
        ({"nodes": [{"node": "write", "layer": 1}]}, "node 0: field 'coefficient' is missing"),
        ({"nodes": [{"node": "spell"}]}, "node 0: 'node' is 'spell'"),
        ({"nodes": [3]}, "node 0: not a node"),
    ],
)
def test_malformed_json_names_the_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        InterventionGraph.from_json({**InterventionGraph().to_json(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "1"}, "a file, node 0: .*'layer' is '1', expected an integer"),
        ({"coefficient": True}, "a file, node 0: .*'coefficient' is True, expected a number"),
        ({"rows": "01"}, "a file, node 0: .*'rows' is '01', expected a list of integers"),
        ({"rows": [0, 0]}, "a file, node 0: .*different indices"),
        ({"positions": "answer"}, r"a file, node 0: (.|\n)*positions"),
    ],
)
def test_a_write_edited_into_nonsense_names_file_and_field(change: dict[str, object], message: str) -> None:
    data = InterventionGraph((Write(0, Add(vector(1))),)).to_json()
    data["nodes"][0].update(change)
    with pytest.raises(FileFormatError, match=message):
        InterventionGraph.from_json(data, source="a file")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("operation", 3, "a file, node 0: .*operation"),
        ("condition", 3, "a file, node 0: field 'condition' must be an object with 'kind', got 3"),
        ("schedule", [], r"a file, node 0: field 'schedule' must be an object with 'kind', got \[\]"),
        ("condition", {"kind": "projection"}, "a file, node 0: field 'threshold' of the condition is missing"),
        (
            "condition",
            {"kind": "projection", "threshold": "1", "side": "above"},
            "a file, node 0: .*'threshold' is '1', expected a",
        ),
        ("schedule", {"kind": "linear_ramp", "start": 0}, "a file, node 0: field 'end' of the schedule 'linear_ramp' is missing"),
        ("schedule", {"kind": "step_table", "factors": []}, "a file, node 0: schedule 'step_table': .*at least one number"),
        ("schedule", {"kind": "exponential_decay", "half_life": -1}, "a file, node 0: .*above 0 steps, got -1.0"),
        ("schedule", {"kind": "exponential_decay", "half_life": "1"}, r"a file, node 0: (.|\n)*half_life"),
    ],
)
def test_a_part_of_a_write_edited_into_nonsense_names_file_and_field(field: str, value: object, message: str) -> None:
    data = InterventionGraph((Write(0, Add(vector(1))),)).to_json()
    data["nodes"][0][field] = value
    with pytest.raises(FileFormatError, match=message):
        InterventionGraph.from_json(data, source="a file")


def test_a_number_missing_or_malformed_in_an_operation_names_file_and_field() -> None:
    data = InterventionGraph((Write(0, Cap(vector(1), 2.0)),)).to_json()
    data["nodes"][0]["operation"]["bound"] = None
    with pytest.raises(FileFormatError, match="a file, node 0: 'cap': field 'bound' is None, expected a number"):
        InterventionGraph.from_json(data, source="a file")
    del data["nodes"][0]["operation"]["bound"]
    with pytest.raises(FileFormatError, match="a file, node 0: field 'bound' of 'cap' is missing"):
        InterventionGraph.from_json(data, source="a file")


def test_unknown_conditions_and_schedules_list_the_known_ones() -> None:
    for field, message in (
        ("condition", "unknown condition kind 'x'.*Known: projection"),
        ("schedule", "unknown schedule kind 'x'.*Known: exponential_decay, linear_ramp, step_table"),
    ):
        data = InterventionGraph((Write(0, Add(vector(1))),)).to_json()
        data["nodes"][0][field] = {"kind": "x"}
        with pytest.raises(UnknownNameError, match=message):
            InterventionGraph.from_json(data)


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (None, "field 'direction' must be an object"),
        ({"dtype": "int7", "values": [1.0]}, "dtype 'int7' is not one of"),
        ({"dtype": "float32", "values": []}, "non-empty list of numbers"),
        ({"dtype": "float32", "values": ["1"]}, "non-empty list of numbers"),
    ],
)
def test_malformed_direction_is_refused(direction: object, message: str) -> None:
    data = InterventionGraph((Write(0, Add(vector(1))),)).to_json()
    data["nodes"][0]["operation"]["direction"] = direction
    with pytest.raises(FileFormatError, match=message):
        InterventionGraph.from_json(data, source="a file")


def test_unknown_operation_lists_the_known_ones() -> None:
    data = InterventionGraph((Write(0, Add(vector(1))),)).to_json()
    data["nodes"][0]["operation"]["kind"] = "ad"
    with pytest.raises(UnknownNameError, match="unknown operation kind 'ad'. Did you mean 'add'"):
        InterventionGraph.from_json(data)


def test_operation_kinds_are_unique() -> None:
    class Other(Add):
        kind = "add"

    with pytest.raises(InvalidInputError, match="'add' is already registered by Add"):
        register_operation(Other)
    assert OPERATIONS["add"] is register_operation(Add)


def test_add_is_pure_and_keeps_the_dtype() -> None:
    resid = torch.ones(2, 3, 4, dtype=torch.bfloat16)
    result = Add.transform(resid, torch.arange(4.0).view(1, 1, 4), torch.tensor([[[2.0]], [[0.0]]]))
    assert result.dtype == torch.bfloat16
    assert torch.equal(result[0, 1].float(), torch.tensor([1.0, 3.0, 5.0, 7.0]))
    assert torch.equal(result[1], resid[1])
    assert torch.equal(resid, torch.ones_like(resid))
