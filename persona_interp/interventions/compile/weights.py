"""The writes of an `InterventionGraph` as constants that weights can hold: what is added to each block's output, always."""

from __future__ import annotations

import torch

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.interventions.positions import prefill_masks, prompts_only
from persona_interp.shapes import Direction

_ELSEWHERE = "steer while the model runs instead, with steered() or the verbs of a SteerableModel"


def constant_offsets(graph: InterventionGraph) -> dict[int, Direction]:
    """What `graph` adds to the output of each block it writes to, in double precision; several writes to one block are summed.

    Raises:
        InvalidInputError: a graph without writes.
        UnsupportedError: a graph that does anything else than adding the same at every position of every row: weights know
            neither rows nor positions, and a bias cannot look at the residual stream.
    """
    if graph.captures:
        raise UnsupportedError("weights cannot hold a Capture: read residuals with SteerableModel.capture, and leave it out here")
    if not graph.writes:
        raise InvalidInputError("the graph has no Write, so there is nothing to put into weights: give at least one Add")
    for write in graph.writes:
        _check_constant(write)
    masks = prefill_masks(prompts_only(torch.ones(1, 1, dtype=torch.bool)))
    stacked = stack_writes(graph, 1)
    width = graph.writes[0].operation.direction.shape[-1]
    nothing = torch.zeros(1, 1, width, dtype=torch.float64)
    return {layer: stacked.apply(layer, nothing, masks)[0, 0] for layer in sorted(stacked.by_layer)}


def _check_constant(write: Write) -> None:
    if type(write.operation) is not Add:
        what = f"has the operation {type(write.operation).__name__}, which depends on the residual stream"
    elif write.rows is not None:
        what = f"is for rows {write.rows}"
    elif write.positions != "all":
        what = f"is for {write.positions!r} positions"
    elif write.condition is not None:
        what = f"has a condition ({type(write.condition).__name__})"
    elif write.schedule is not None:
        what = f"has a schedule ({type(write.schedule).__name__})"
    else:
        return
    raise UnsupportedError(
        f"the Write at layer {write.layer} {what}; weights can only hold an Add at all positions of every row: {_ELSEWHERE}"
    )
