"""The likelihood of given answers, under one graph or many; many are cheaper together, since each restarts where it steers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.engine import Engine, Restart
from persona_interp.models.results import AnswerLikelihood


def likelihoods_under(
    engine: Engine, batch: PaddedBatch, answers: Sequence[Sequence[int]], graphs: Sequence[InterventionGraph], n_layers: int
) -> list[list[AnswerLikelihood]]:
    """For each graph the likelihood of each row's answer.

    With several graphs the residual stream is read once, unsteered, at the layers where a graph begins to write; each graph then
    runs from its own layer on. The numbers are those of full forwards.
    """
    longest = max(1, *(len(answer) for answer in answers))
    begins = [min((write.layer for write in graph.writes), default=None) for graph in graphs]
    layers = sorted({layer for layer in begins if layer is not None})
    resid = engine.residuals(batch, layers) if layers and len(graphs) > 1 and engine.restarts else {}
    found: list[list[AnswerLikelihood]] = []
    for graph, layer in zip(graphs, begins, strict=True):
        start = Restart(layer, resid[layer]) if layer is not None and layer in resid else None
        logits = engine.forward(batch, graph, Readouts((), n_layers), n_logits=longest, start=start)
        if logits is None:
            raise RuntimeError("the engine returned no logits")
        found.append([AnswerLikelihood(answer_log_probs(logits[row], answer).cpu()) for row, answer in enumerate(answers)])
    return found


def answer_log_probs(logits: Float[Tensor, "kept vocab"], answer_ids: Sequence[int]) -> Float[Tensor, " n_answer"]:
    """Log probabilities of the answer ids, which the last positions predict."""
    if not answer_ids:
        return logits.new_zeros(0, dtype=torch.float32)
    scores = logits[-len(answer_ids) :].float()
    index = torch.tensor(answer_ids, device=scores.device).unsqueeze(1)
    return scores.gather(1, index).squeeze(1) - scores.logsumexp(dim=1)
