"""Matching effects: the push in the target that does to the likelihoods of shared texts what the source's push does to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import length, symmetric_eigen
from persona_interp.alignment.spectrum import typical_eigenvalue
from persona_interp.errors import InvalidInputError

STRENGTH = 3.0
"""Ridge strength, in typical eigenvalues of the target's effects (`alignment.spectrum`). Without it, directions that hardly do
anything would be used to explain the last of the effects, and a push along them is wasted; with more, pairs put in random order
carry something too, namely the direction in which the target's effects vary most. Chosen on the planted organisms, where 1 to 10
did about as well."""


@dataclass(frozen=True)
class EffectMatch:
    """How well a matched direction explains the source's effects on texts that were held out.

    Attributes:
        correlation: between its first-order effects and the source's.
        gain: nats (standard deviation over texts) that a push along it, as long as the mean residual, moves the texts in the way
            the source's does. What does nothing, or something else, has none.
    """

    correlation: float
    gain: float


def matched_direction(
    wanted: Float[Tensor, " row"], effects: Float[Tensor, "target_row d_model"], *, strength: float = STRENGTH
) -> Float[Tensor, " d_model"]:
    """The direction whose first-order effects on the anchors are nearest to `wanted`, by ridge regression, both centred.

    A direction is thus described by what it does to texts that both models read, and built again in the other model from the same
    description (relative representations, by effects instead of similarities). Rows are gradients of log-likelihoods
    (`SteerableModel.likelihood_gradient`), so neither width, depth nor tokenizer need agree.

    Args:
        wanted: the source direction's effects, one a text: the source's gradients times the direction.
        effects: the target's gradients on the same texts.
        strength: of the ridge, in typical eigenvalues.

    Raises:
        InvalidInputError: the texts are not the same number, or the target's effects are all the same.
    """
    if len(wanted) != len(effects) or len(wanted) < 2:
        raise InvalidInputError(
            f"{len(wanted)} effects of the source and {len(effects)} of the target are no pairs of the same texts"
        )
    y = wanted.double() - wanted.double().mean()
    rows = effects.double() - effects.double().mean(dim=0)
    gram = rows.T @ rows
    values, axes = symmetric_eigen(gram)
    unit = typical_eigenvalue(values)
    if not float(unit) > 0:
        raise InvalidInputError("the target's effects are the same for all texts: nothing it does can be told apart")
    return axes @ ((axes.T @ (rows.T @ y)) / (values.clamp_min(0) + strength * unit))


def effect_match(
    wanted: Float[Tensor, " row"], effects: Float[Tensor, "row d_model"], direction: Float[Tensor, " d_model"], resid_norm: float
) -> EffectMatch:
    """How `direction` does on texts it was not matched on. Both are 0 where one side does not vary."""
    y = wanted.double() - wanted.double().mean()
    unit = direction.double() / length(direction.double()).clamp_min(torch.finfo(torch.float64).tiny)
    done = effects.double() @ (unit * resid_norm)
    done = done - done.mean()
    size = float(length(y) * length(done))
    if size == 0:
        return EffectMatch(0.0, 0.0)
    together = float(y @ done)
    return EffectMatch(together / size, together / float(length(y)) / len(y) ** 0.5)
