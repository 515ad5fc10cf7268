"""Layers by likelihood at the price of a few: a gradient says at which layers it is worth while to steer and read.

One forward and one backward pass tell what a small push does at every layer at once; what a push of useful size does only
steering tells, and each layer and dose of that costs a forward. So the layers where a small push does most are steered, and no
others.

Most words of an answer have nothing to do with a trait, and what steering does to them is noise, larger in an ordinary model than
what it does to the few that have. So every token counts as much as the trait's own instructions tell it apart: by how much more
likely it is under the positive one than under the negative one. Of a layer this leaves the share of the instructions' effect that
steering there has too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import PersonaInterpError, UnsupportedError
from persona_interp.measure.contrast_pairs import ContrastPair
from persona_interp.measure.effectiveness import LayerScore
from persona_interp.measure.layer_proxies import (
    answer_rows,
    best_doses,
    check_pairs,
    early_weights,
    first_order_gains,
    likelihood_gains,
)
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

N_READ = 24
"""Tokens of an answer that are read: what follows is likely once its beginning is there."""
N_STEERED = 4
"""Layers that are steered."""
RATIOS = (0.2,)
"""Perturbation ratios tried at them: one that any layer stands, as larger ones damage layers unlike."""
_SLOPES_OF = 8
"""Pairs that slopes are taken of: a few tell which layers are worth while, as all are tried on the same words."""
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
    """How much of what the trait's instructions do to the words of answers steering does too, at the layers worth while.

    With d the log probability of a token under the system prompt of the positive answer less that under the negative one's, and s
    what steering adds to it without a system prompt, the score is the sum of d s over the sum of d squared, over all tokens of
    both kinds of answers: the slope of s on d. Where pairs do not know their system prompts, it is by how much more steering
    raises the log probability of answers with the trait than of those without, in nats a token.

    The layers where that grows fastest at coefficient 0 are steered, all in the direction in which one of the two kinds of
    answers has most to gain.

    Args:
        model: the model.
        vector: knows the residual norms (as extracted ones do).
        pairs: answers other than those the vector was made from.
        ratios: perturbation ratios to try; the best one counts.
        n_steered: layers to try them at.
        batch_size: rows run together, chosen by the model if None.

    Returns:
        One score a layer tried, with its interval over questions; layers that were not tried have none.

    Raises:
        InvalidInputError: fewer than two pairs, no ratio, or a vector without residual norms.
        PersonaInterpError: the system prompts make no difference to any token.
    """
    check_pairs(pairs, ratios)
    halves = answer_rows(model, pairs, N_READ)
    rows, told = [*halves[1], *halves[-1]], _told_apart(model, pairs, batch_size)
    with_trait, without = _slopes(model, vector, rows, told, batch_size)
    direction = 1 if with_trait.max() >= without.max() else -1
    steepest = (with_trait + without).argsort(descending=True, stable=True)[:n_steered].tolist()
    tried = vector.select(sorted(vector.layers[place] for place in steepest))
    gains = likelihood_gains(model, tried, rows, direction, ratios, batch_size, told)
    shares = direction * gains.unflatten(-1, (2, len(pairs))).sum(dim=-2)
    if _prompted(pairs):  # a ratio of sums: a pair whose words are told apart much counts more, which is no deviation of its own
        weight = torch.stack([each.square().sum() for each in told]).unflatten(0, (2, len(pairs))).sum(dim=0)
        shares = shares - shares.mean(dim=-1, keepdim=True) * (weight / weight.mean() - 1)
    scored = {score.layer: score for score in best_doses(tried, shares.unsqueeze(0), (direction,), ratios, pairs)}
    return tuple(scored.get(layer, LayerScore(layer, None)) for layer in vector.layers)


def _prompted(pairs: Sequence[ContrastPair]) -> bool:
    return all(pair.systems is not None for pair in pairs)


def _told_apart(model: SteerableModel, pairs: Sequence[ContrastPair], batch_size: int | None) -> list[Float[Tensor, " _"]]:
    """What each token counts, of the answers with the trait and then of those without."""
    asked = [(pair.question, pair.positive) for pair in pairs] + [(pair.question, pair.negative) for pair in pairs]

    def rows(systems: Sequence[str | None]) -> list[TokenisedAnswer]:
        whole = [
            model.chat.tokenise(Conversation.ask(question, system), text)
            for (question, text), system in zip(asked, systems, strict=True)
        ]
        return [TokenisedAnswer(row.ids[: row.n_prompt + N_READ], row.n_prompt) for row in whole]

    if not _prompted(pairs):
        plain = [early_weights(len(row.answer_ids)) for row in rows([None] * len(asked))]
        return [*plain[: len(pairs)], *(-each for each in plain[len(pairs) :])]
    under = [
        [found.token_log_probs for found in model.log_likelihood(rows(systems * 2), batch_size=batch_size)]
        for systems in zip(*(pair.systems or () for pair in pairs), strict=True)
    ]
    told = [positive - negative for positive, negative in zip(*under, strict=True)]
    total = float(sum(each.square().sum() for each in told))
    if not total > 0:
        raise PersonaInterpError(
            f"the trait's instructions make no difference to what {model.name} says: no layer can be told by them"
        )
    return [each * len(pairs) / total for each in told]


def _slopes(
    model: SteerableModel,
    vector: PersonaVector,
    rows: Sequence[TokenisedAnswer],
    told: Sequence[Float[Tensor, " _"]],
    batch_size: int | None,
) -> Float[Tensor, "half layer"]:
    """How fast the score grows as the vector is added at each layer, in answers with the trait and in those without."""
    half = len(rows) // 2

    def of(n_pairs: int) -> tuple[list[TokenisedAnswer], list[Float[Tensor, " _"]]]:
        few = [*range(min(n_pairs, half)), *range(half, half + min(n_pairs, half))]
        return [rows[place] for place in few], [told[place] for place in few]

    try:
        part, counted = of(_SLOPES_OF)
        found = first_order_gains(model, vector, part, weights=counted, batch_size=batch_size)
    except UnsupportedError:  # llama.cpp, NDIF, some quantized weights: a faint push at each layer instead, on a few answers
        part, counted = of(_FEW)
        found = likelihood_gains(model, vector, part, 1, (_FAINT,), batch_size, counted)[:, 0] / _FAINT
    return torch.stack([kind.mean(dim=1) for kind in found.chunk(2, dim=1)])
