"""Layers by likelihood at the price of a few: a gradient says at which layers it is worth while to steer and read.

One forward and one backward pass tell what a small push does at every layer at once; what a push of useful size does only
steering tells, and each layer and dose of that costs a forward. So the layers where a small push does most are steered, and no
others.

A push of useful size makes any text less likely in a model that nothing was planted in, those with the trait a little less than
those without: what counts is the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.measure.contrast_pairs import ContrastPair
from persona_interp.measure.effectiveness import LayerScore
from persona_interp.measure.layer_proxies import (
    HALF_LIFE,
    answer_rows,
    best_doses,
    check_pairs,
    first_order_gains,
    likelihood_gains,
)
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

N_READ = int(3 * HALF_LIFE)
"""Tokens of an answer that are read: seven eighths of the weight of an answer without end."""
N_STEERED = 4
"""Layers that are steered."""
RATIOS = (0.2,)
"""Perturbation ratios tried at them: one that any layer stands, as larger ones damage layers unlike."""
_FAINT = 0.1
"""Perturbation ratio by which slopes are told where no gradient can be had."""
_FEW = 4
"""Pairs read for those."""


def screened_scores(
    model: SteerableModel,
    vector: PersonaVector,
    pairs: Sequence[ContrastPair],
    *,
    ratios: Sequence[float] = RATIOS,
    n_steered: int = N_STEERED,
    batch_size: int | None = None,
) -> tuple[LayerScore, ...]:
    """By how much more steering makes answers likelier that it should lead to than those it should lead away from.

    The layers where that grows fastest at coefficient 0 are steered, all in the direction in which one of the two kinds of
    answers has most to gain; the beginnings of the answers are read.

    Args:
        model: the model.
        vector: knows the residual norms (as extracted ones do).
        pairs: answers other than those the vector was made from.
        ratios: perturbation ratios to try; the best one counts.
        n_steered: layers to try them at.
        batch_size: rows run together, chosen by the model if None.

    Returns:
        One score a layer tried, in nats a token, with its interval over questions; layers that were not tried have none.

    Raises:
        InvalidInputError: fewer than two pairs, no ratio, or a vector without residual norms.
    """
    check_pairs(pairs, ratios)
    halves = answer_rows(model, pairs, N_READ)
    with_trait, without = _slopes(model, vector, halves, batch_size)
    direction = 1 if with_trait.max() >= (-without).max() else -1
    steepest = (with_trait - without).argsort(descending=True, stable=True)[:n_steered].tolist()
    tried = vector.select(sorted(vector.layers[place] for place in steepest))
    gains = likelihood_gains(model, tried, [*halves[1], *halves[-1]], direction, ratios, batch_size)
    contrast = direction * (gains[..., : len(pairs)] - gains[..., len(pairs) :])
    scored = {score.layer: score for score in best_doses(tried, contrast.unsqueeze(0), (direction,), ratios, pairs)}
    return tuple(scored.get(layer, LayerScore(layer, None)) for layer in vector.layers)


def _slopes(
    model: SteerableModel, vector: PersonaVector, halves: dict[int, list[TokenisedAnswer]], batch_size: int | None
) -> Float[Tensor, "half layer"]:
    """How fast answers with the trait, and those without, become likelier as the vector is added at each layer."""
    try:
        found = first_order_gains(model, vector, [*halves[1], *halves[-1]], batch_size=batch_size)
    except UnsupportedError:  # llama.cpp, NDIF, some quantized weights: a faint push at each layer instead, on a few answers
        rows = [*halves[1][:_FEW], *halves[-1][:_FEW]]
        found = likelihood_gains(model, vector, rows, 1, (_FAINT,), batch_size)[:, 0] / _FAINT
    return torch.stack([half.mean(dim=1) for half in found.chunk(2, dim=1)])
