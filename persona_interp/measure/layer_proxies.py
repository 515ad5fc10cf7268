"""Cheap stand-ins for a behavioural sweep: what steering at each layer does to the likelihood of given answers.

The model reads answers that have the trait and answers that lack it, without any instruction. Where a layer steers well, adding
the vector there makes the first likelier. No token is generated.

Early tokens count more (`decided_early`): what an answer says first decides how it goes on, and given a beginning in character
any model finds the rest likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.measure.contrast_pairs import ContrastPair
from persona_interp.measure.effectiveness import LayerScore
from persona_interp.measure.held_out import held_out_best, mean_over_questions
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
    return (token_log_probs * early_weights(len(token_log_probs)).to(token_log_probs)).sum()


def early_weights(n_tokens: int) -> Float[Tensor, " n_answer"]:
    """What each token of an answer counts in `decided_early`; they add up to 1."""
    weights = torch.exp2(-torch.arange(n_tokens, dtype=torch.float32) / HALF_LIFE)
    return weights / weights.sum()


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
    damage counts against a layer. Layers next to one another come out alike, since each is given the dose that suits it;
    `screened_scores` tells them apart better. Each forward restarts from the residual stream at the steered layer. A vector
    turned round, as its AUROC below one half tells, is scored by what it does then.

    Args:
        model: the model.
        vector: knows the residual norms (as extracted ones do).
        pairs: answers other than those the vector was made from.
        ratios: perturbation ratios to try.
        batch_size: rows run together, chosen by the model if None.

    Returns:
        One score a layer, in nats a token, with the coefficient of the best dose, and what that dose does on questions it was not
        picked on, with the interval over questions.

    Raises:
        InvalidInputError: fewer than two pairs, no ratio, or a vector without residual norms.
    """
    check_pairs(pairs, ratios)
    halves = answer_rows(model, pairs)
    gains = torch.stack([likelihood_gains(model, vector, rows, sign, ratios, batch_size) for sign, rows in halves.items()])
    return best_doses(vector, gains, tuple(halves), ratios, pairs)


def likelihood_gains(
    model: SteerableModel,
    vector: PersonaVector,
    rows: Sequence[TokenisedAnswer],
    sign: int,
    ratios: Sequence[float],
    batch_size: int | None = None,
    weights: Sequence[Float[Tensor, " _"]] | None = None,
) -> Float[Tensor, "layer dose row"]:
    """By how much the vector, times `sign` and turned the way it points, makes each answer likelier at each layer and dose.

    `weights` are what each token of each answer counts; as in `decided_early` if None.
    """
    norm_ratios, towards = known_ratios(vector), sign * orientation(vector)
    doses = [(layer, towards * ratio / norm_ratios[layer]) for layer in vector.layers for ratio in ratios]
    graphs = [InterventionGraph(), *(vector.graph(coefficient, layers=[layer]) for layer, coefficient in doses)]
    found = model.log_likelihoods(rows, graphs, batch_size=batch_size)
    counted = [early_weights(len(row.answer_ids)) for row in rows] if weights is None else weights
    plain, *steered = [
        torch.stack([answer.token_log_probs @ each.float() for answer, each in zip(answers, counted, strict=True)])
        for answers in found
    ]
    return torch.stack(steered).sub(plain).unflatten(0, (len(vector.layers), len(ratios)))


def best_doses(
    vector: PersonaVector,
    gains: Float[Tensor, "direction layer dose pair"],
    directions: Sequence[int],
    ratios: Sequence[float],
    pairs: Sequence[ContrastPair],
) -> tuple[LayerScore, ...]:
    """A score a layer: its best dose in the direction in which the best layer gains most."""
    norm_ratios, means = known_ratios(vector), gains.mean(dim=-1)
    chosen = int(means.amax(dim=(1, 2)).argmax())
    questions = [pair.question for pair in pairs]
    picked = len(gains) * len(ratios) > 1
    known = held_out_best(gains, questions) if picked else [mean_over_questions(row, questions) for row in gains[0, :, 0]]
    scores: list[LayerScore] = []
    for layer, doses, expected in zip(vector.layers, means[chosen], known, strict=True):
        best, held_out = int(doses.argmax()), expected.value if picked else None
        coefficient = directions[chosen] * orientation(vector) * ratios[best] / norm_ratios[layer]
        scores.append(
            LayerScore(layer, float(doses[best]), expected.low, expected.high, coefficient, ratios[best], held_out=held_out)
        )
    return tuple(scores)


def gradient_scores(
    model: SteerableModel, vector: PersonaVector, pairs: Sequence[ContrastPair], *, batch_size: int | None = None
) -> tuple[LayerScore, ...]:
    """How fast the positive answers become likelier than the negative ones as the coefficient grows from 0, for every layer.

    One forward and one backward pass; in nats a token for a perturbation ratio of 1, were the effect to stay linear.

    Raises:
        InvalidInputError: fewer than two pairs, or a vector without residual norms.
        UnsupportedError: no gradient reaches the residual stream.
    """
    check_pairs(pairs, (1.0,))
    halves = answer_rows(model, pairs)
    slopes = first_order_gains(model, vector, [*halves[1], *halves[-1]], batch_size=batch_size)
    contrast = slopes[:, : len(pairs)] - slopes[:, len(pairs) :]
    questions = [pair.question for pair in pairs]
    return tuple(_score(layer, values, questions) for layer, values in zip(vector.layers, contrast.tolist(), strict=True))


def first_order_gains(
    model: SteerableModel,
    vector: PersonaVector,
    rows: Sequence[TokenisedAnswer],
    *,
    weights: Sequence[Float[Tensor, " _"]] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "layer row"]:
    """How fast each answer becomes likelier as the vector is added at each layer, for a perturbation ratio of 1.

    Args:
        model: the model.
        vector: knows the residual norms.
        rows: the answers.
        weights: what each token of each counts; as in `decided_early` if None.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        UnsupportedError: no gradient reaches the residual stream.
    """
    norm_ratios = known_ratios(vector)
    directions = torch.stack([orientation(vector) * vector.at(layer) / norm_ratios[layer] for layer in vector.layers])
    counted = [early_weights(len(row.answer_ids)) for row in rows] if weights is None else weights
    gradient = model.likelihood_gradient(rows, vector.layers, weights=counted, batch_size=batch_size)
    return einsum(gradient, directions, "row layer d, layer d -> layer row")


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
    check_pairs(pairs, (ratio,))
    norm_ratios = known_ratios(vector)
    positive, negative = answer_rows(model, pairs).values()
    capture = Capture("answer", layers=vector.layers)
    read = model.capture([*positive, *negative], InterventionGraph((capture,)), batch_size=batch_size)
    mean = torch.stack([values[capture] for values in read if capture in values]).mean(dim=0)
    push = torch.stack([orientation(vector) * vector.at(layer) * (ratio / norm_ratios[layer]) for layer in vector.layers])
    shift = torch.log_softmax(model.unembed(mean + push), dim=-1) - torch.log_softmax(model.unembed(mean), dim=-1)
    contrast = _mean_of_tokens(shift, positive) - _mean_of_tokens(shift, negative)
    questions = [pair.question for pair in pairs]
    return tuple(_score(layer, contrast[:, row].tolist(), questions) for row, layer in enumerate(vector.layers))


def geometry_scores(vector: PersonaVector) -> tuple[LayerScore, ...]:
    """What extraction recorded: held-out AUROC (turned to above one half), and a hundredth of the norm ratio to break ties.

    Costs nothing and says nothing about steering.
    """
    unknown = (None,) * len(vector.layers)
    areas = vector.listed("auroc") or unknown
    return tuple(
        LayerScore(layer, None if area is None else max(area, 1 - area) + (ratio or 0.0) / 100)
        for layer, area, ratio in zip(vector.layers, areas, vector.listed("norm_ratio"), strict=True)
    )


def known_ratios(vector: PersonaVector) -> dict[int, float]:
    """Layer -> norm of its direction over the mean residual norm.

    Raises:
        InvalidInputError: the vector does not know the residual norms at all of its layers, or is zero at one.
    """
    found = {layer: ratio for layer, ratio in zip(vector.layers, vector.listed("norm_ratio"), strict=True) if ratio}
    if missing := [layer for layer in vector.layers if layer not in found]:
        raise InvalidInputError(
            f"the vector {vector.trait!r} records no residual norm, or is zero, at layers {missing}: doses cannot be compared "
            "across layers; extract it again, or select() the others"
        )
    return found


def check_pairs(pairs: Sequence[ContrastPair], ratios: Sequence[float]) -> None:
    """Refuse what no layer can be scored with.

    Raises:
        InvalidInputError: fewer than two pairs, or no ratio above 0.
    """
    if len(pairs) < 2 or not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise InvalidInputError(
            f"{len(pairs)} pairs at perturbation ratios {list(ratios)}: give at least 2 pairs, and at least one ratio above 0"
        )


def answer_rows(
    model: SteerableModel, pairs: Sequence[ContrastPair], n_read: int | None = None
) -> dict[int, list[TokenisedAnswer]]:
    """Direction -> the answers that steering in it should make likelier: 1 those with the trait, -1 those without.

    Args:
        model: whose tokens.
        pairs: the answers.
        n_read: tokens of each answer at most; None: all.
    """

    def rows(texts: Sequence[str]) -> list[TokenisedAnswer]:
        whole = [model.chat.tokenise(Conversation.ask(pair.question), text) for pair, text in zip(pairs, texts, strict=True)]
        return [row if n_read is None else TokenisedAnswer(row.ids[: row.n_prompt + n_read], row.n_prompt) for row in whole]

    return {1: rows([pair.positive for pair in pairs]), -1: rows([pair.negative for pair in pairs])}


def orientation(vector: PersonaVector) -> int:
    """-1 for a vector that points away from its trait."""
    known = [area for area in vector.listed("auroc") if area is not None]
    return -1 if known and fmean(known) < 0.5 else 1


def _score(layer: int, values: Sequence[float], questions: Sequence[str]) -> LayerScore:
    """The mean over pairs with its interval over questions."""
    found = mean_over_questions(values, questions)
    return LayerScore(layer, fmean(values), found.low, found.high)


def _mean_of_tokens(shift: Float[Tensor, "layer vocab"], rows: Sequence[TokenisedAnswer]) -> Float[Tensor, "row layer"]:
    return torch.stack([shift[:, list(row.answer_ids)].mean(dim=1) for row in rows])
