"""The likelihood of given answers, under one graph or many; many are cheaper together, since each restarts where it steers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.protocol import Engine, Restart
from persona_interp.models.results import AnswerLikelihood


def likelihoods_under(
    engine: Engine, batch: PaddedBatch, answers: Sequence[Sequence[int]], graphs: Sequence[InterventionGraph]
) -> list[list[AnswerLikelihood]]:
    """For each graph the likelihood of each row's answer.

    With several graphs the residual stream is read once, unsteered, at the layers where a graph begins to write; each graph then
    runs from its own layer on. The numbers are those of full forwards.
    """
    layers = restart_layers(engine, graphs)
    resid = engine.residuals(batch, layers) if layers else {}
    found: list[list[AnswerLikelihood]] = []
    for graph, layer in zip(graphs, map(_begins, graphs), strict=True):
        start = Restart(layer, resid[layer]) if layer is not None and layer in resid else None
        found.append([AnswerLikelihood(log_probs) for log_probs in engine.log_probs(batch, graph, answers, start=start)])
    return found


def token_weights(rows: Sequence[TokenisedAnswer], weights: Sequence[Float[Tensor, " _"]] | None) -> list[Float[Tensor, " _"]]:
    """One weight an answer token, row by row: 1 if None.

    Raises:
        InvalidInputError: another number of rows, or of tokens in one.
    """
    if weights is None:
        return [torch.ones(len(row.answer_ids)) for row in rows]
    found, wanted = [len(row) for row in weights], [len(row.answer_ids) for row in rows]
    if found != wanted:
        raise InvalidInputError(f"rows of {wanted} answer tokens with weights for {found}: give one weight a token")
    return list(weights)


def gradient_layers(layers: Sequence[int] | None, n_layers: int, rows: Sequence[TokenisedAnswer]) -> list[int]:
    """The layers a gradient is asked at, all of them if None.

    Raises:
        InvalidInputError: none, one the model does not have, or an empty answer.
    """
    chosen = list(range(n_layers)) if layers is None else list(layers)
    if not set(chosen) <= set(range(n_layers)) or not chosen or any(not row.answer_ids for row in rows):
        known = f"layers of 0 to {n_layers - 1} ({chosen} given)"
        raise InvalidInputError(f"a gradient needs {known} and rows with at least one answer token")
    return chosen


def restart_layers(engine: Engine, graphs: Sequence[InterventionGraph]) -> list[int]:
    """Layers whose residuals are read first, so that the forward of each graph can begin where it writes."""
    if len(graphs) < 2 or not engine.restarts:
        return []
    return sorted({layer for layer in map(_begins, graphs) if layer is not None})


def _begins(graph: InterventionGraph) -> int | None:
    return min((write.layer for write in graph.writes), default=None)
