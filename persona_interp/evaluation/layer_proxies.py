"""Cheap stand-ins for a behavioural sweep: what steering at each layer does to the likelihood of given answers.

The model reads answers that have the trait and answers that lack it, without any instruction. Where a layer steers well, adding
the vector there makes the first likelier. No token is generated.

Early tokens count more (`decided_early`): what an answer says first decides how it goes on, and given a beginning in character
any model finds the rest likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.evaluation.contrast_pairs import ContrastPair
from persona_interp.evaluation.effectiveness import LayerScore
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

HALF_LIFE = 16.0
"""Tokens after which a token of an answer counts half as much."""
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
"""Perturbation ratios tried by `likelihood_scores`; published coherence cliffs lie near 1.15."""


def decided_early(token_log_probs: Float[Tensor, " n_answer"]) -> Float[Tensor, ""]:
    """Weighted mean of the log probabilities of an answer's tokens, in nats a token; weights halve every `HALF_LIFE` tokens."""
    places = torch.arange(len(token_log_probs), dtype=torch.float32, device=token_log_probs.device)
    weights = torch.exp2(-places / HALF_LIFE)
    return (token_log_probs * weights).sum() / weights.sum()


def likelihood_scores(
    model: SteerableModel,
    vector: PersonaVector,
    pairs: Sequence[ContrastPair],
    *,
    ratios: Sequence[float] = RATIOS,
    batch_size: int | None = None,
) -> tuple[LayerScore, ...]:
    """By how much steering at each layer raises the log probability of the answers it should lead to, at the best dose.

    Positive answers are read while the vector is added, negative ones while it is subtracted; the direction in which most can be
    gained is the one that counts, since the model has room there. A dose that breaks the model makes every answer unlikely, so
    damage counts against a layer. Each forward restarts from the residual stream at the steered layer. A vector turned round, as
    its AUROC below one half tells, is scored by what it does then.

    Args:
        model: the model.
        vector: knows the residual norms (as extracted ones do).
        pairs: answers other than those the vector was made from.
        ratios: perturbation ratios to try.
        batch_size: rows run together, chosen by the model if None.

    Returns:
        One score a layer, in nats a token, with the interval over pairs and the coefficient of the best dose.

    Raises:
        InvalidInputError: fewer than two pairs, no ratio, or a vector without residual norms.
    """
    _check(pairs, ratios)
    norm_ratios = known_ratios(vector)
    positive, negative = _rows(model, pairs)
    n, towards = len(pairs), _orientation(vector)
    doses = [(layer, towards * ratio / norm_ratios[layer], ratio) for layer in vector.layers for ratio in ratios]
    graphs = [InterventionGraph()]
    for layer, coefficient, _ in doses:
        up = vector.graph(coefficient, layers=[layer], rows=range(n))
        graphs.append(up + vector.graph(-coefficient, layers=[layer], rows=range(n, 2 * n)))
    found = model.log_likelihoods([*positive, *negative], graphs, batch_size=batch_size)
    plain, *steered = [torch.stack([decided_early(answer.token_log_probs) for answer in answers]) for answers in found]
    by_direction: list[tuple[LayerScore, ...]] = []
    for sign, half in ((1, slice(0, n)), (-1, slice(n, 2 * n))):
        scores = [
            _score(layer, (answers - plain)[half].tolist(), sign * coefficient, ratio)
            for (layer, coefficient, ratio), answers in zip(doses, steered, strict=True)
        ]
        by_direction.append(tuple(_best(scores, layer) for layer in vector.layers))
    return max(by_direction, key=lambda scores: max(score.score or 0.0 for score in scores))


def gradient_scores(
    model: SteerableModel, vector: PersonaVector, pairs: Sequence[ContrastPair], *, batch_size: int | None = None
) -> tuple[LayerScore, ...]:
    """How fast the positive answers become likelier than the negative ones as the coefficient grows from 0, for every layer.

    One forward and one backward pass; in nats a token for a perturbation ratio of 1, were the effect to stay linear.

    Raises:
        InvalidInputError: fewer than two pairs, or a vector without residual norms.
        UnsupportedError: no gradient reaches the residual stream.
    """
    _check(pairs, (1.0,))
    norm_ratios = known_ratios(vector)
    positive, negative = _rows(model, pairs)
    directions = torch.stack([_orientation(vector) * vector.at(layer) / norm_ratios[layer] for layer in vector.layers])
    rows = [*positive, *negative]
    gradient = model.likelihood_gradient(rows, vector.layers, of=decided_early, batch_size=batch_size)
    effects = einsum(gradient, directions, "row layer d, layer d -> row layer")
    contrast = effects[: len(positive)] - effects[len(positive) :]
    return tuple(_score(layer, contrast[:, column].tolist()) for column, layer in enumerate(vector.layers))


def lens_scores(
    model: SteerableModel,
    vector: PersonaVector,
    pairs: Sequence[ContrastPair],
    *,
    ratio: float = 0.3,
    batch_size: int | None = None,
) -> tuple[LayerScore, ...]:
    """How much each layer's vector, read through the final norm and the unembedding, promotes the words of positive answers.

    The vector is added at `ratio` of the residual norm to the mean residual of the answers at its layer (a logit lens); the score
    is the mean change in log probability of the positive answers' tokens minus that of the negative ones', in nats.

    Raises:
        InvalidInputError: fewer than two pairs, or a vector without residual norms.
        UnsupportedError: the weights are not on this machine.
    """
    _check(pairs, (ratio,))
    norm_ratios = known_ratios(vector)
    positive, negative = _rows(model, pairs)
    capture = Capture("answer", layers=vector.layers)
    read = model.capture([*positive, *negative], InterventionGraph((capture,)), batch_size=batch_size)
    mean = torch.stack([values[capture] for values in read if capture in values]).mean(dim=0)
    push = torch.stack([_orientation(vector) * vector.at(layer) * (ratio / norm_ratios[layer]) for layer in vector.layers])
    shift = torch.log_softmax(model.unembed(mean + push), dim=-1) - torch.log_softmax(model.unembed(mean), dim=-1)
    contrast = _mean_of_tokens(shift, positive) - _mean_of_tokens(shift, negative)
    return tuple(_score(layer, contrast[:, row].tolist()) for row, layer in enumerate(vector.layers))


def geometry_scores(vector: PersonaVector) -> tuple[LayerScore, ...]:
    """What extraction recorded: held-out AUROC (turned to above one half), and a hundredth of the norm ratio to break ties.

    Costs nothing and says nothing about steering.
    """
    unknown = (None,) * len(vector.layers)
    areas = vector.statistics.get("auroc", unknown)
    return tuple(
        LayerScore(layer, None if area is None else max(area, 1 - area) + (ratio or 0.0) / 100)
        for layer, area, ratio in zip(vector.layers, areas, vector.norm_ratios, strict=True)
    )


def known_ratios(vector: PersonaVector) -> dict[int, float]:
    """Layer -> norm of its direction over the mean residual norm.

    Raises:
        InvalidInputError: the vector does not know the residual norms at all of its layers, or is zero at one.
    """
    found = {layer: ratio for layer, ratio in zip(vector.layers, vector.norm_ratios, strict=True) if ratio}
    if missing := [layer for layer in vector.layers if layer not in found]:
        raise InvalidInputError(
            f"the vector {vector.trait!r} records no residual norm, or is zero, at layers {missing}: doses cannot be compared "
            "across layers; extract it again, or select() the others"
        )
    return found


def _check(pairs: Sequence[ContrastPair], ratios: Sequence[float]) -> None:
    if len(pairs) < 2 or not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise InvalidInputError(
            f"{len(pairs)} pairs at perturbation ratios {list(ratios)}: give at least 2 pairs, and at least one ratio above 0"
        )


def _rows(model: SteerableModel, pairs: Sequence[ContrastPair]) -> tuple[list[TokenisedAnswer], list[TokenisedAnswer]]:
    asked = [Conversation.ask(pair.question) for pair in pairs]
    positive = [model.chat.tokenise(question, pair.positive) for question, pair in zip(asked, pairs, strict=True)]
    negative = [model.chat.tokenise(question, pair.negative) for question, pair in zip(asked, pairs, strict=True)]
    return positive, negative


def _orientation(vector: PersonaVector) -> int:
    """-1 for a vector that points away from its trait."""
    known = [area for area in vector.statistics.get("auroc", ()) if area is not None]
    return -1 if known and fmean(known) < 0.5 else 1


def _best(scores: Sequence[LayerScore], layer: int) -> LayerScore:
    """The best dose at one layer."""
    return max((score for score in scores if score.layer == layer), key=lambda score: score.score or 0.0)


def _score(layer: int, values: Sequence[float], coefficient: float | None = None, ratio: float | None = None) -> LayerScore:
    """The mean over pairs with its normal interval."""
    mean, reach = fmean(values), 1.96 * stdev(values) / math.sqrt(len(values))
    return LayerScore(layer, mean, mean - reach, mean + reach, coefficient, ratio)


def _mean_of_tokens(shift: Float[Tensor, "layer vocab"], rows: Sequence[TokenisedAnswer]) -> Float[Tensor, "row layer"]:
    return torch.stack([shift[:, list(row.answer_ids)].mean(dim=1) for row in rows])
