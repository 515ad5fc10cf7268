"""Ways to draw one direction from residuals of two kinds of text, at one layer.

All three return a vector that points from negative to positive and has the norm of the mean difference, so that a coefficient
means the same dose whichever was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.registry import Registry

Estimator: TypeAlias = Callable[[Float[Tensor, "sample d_model"], Float[Tensor, "sample d_model"]], Float[Tensor, " d_model"]]
"""(positive, negative) -> direction; row i of both comes from the same instruction pair and question."""

RIDGE = 1e-2
"""Weight of ``0.5 * |w|^2`` beside the mean logistic loss, after scaling the residuals to a mean squared norm of d_model. Enough
that a direction exists although there are fewer texts than dimensions, and the classes can be separated perfectly."""


def mean_difference(
    positive: Float[Tensor, "sample d_model"], negative: Float[Tensor, "sample d_model"]
) -> Float[Tensor, " d_model"]:
    """Mean of positive minus mean of negative (arXiv 2507.21509). The estimator of the paper."""
    return (positive.double().mean(0) - negative.double().mean(0)).float()


def pca(positive: Float[Tensor, "sample d_model"], negative: Float[Tensor, "sample d_model"]) -> Float[Tensor, " d_model"]:
    """First principal component of the paired differences.

    Each pair is centred on its own middle, as in representation engineering (arXiv 2310.01405), so this is the first right
    singular vector of the differences themselves: taking their common mean out would remove the trait. Its sign is that of the
    mean difference, its length that of the mean difference.
    """
    differences = positive.double() - negative.double()
    mean = differences.mean(0)
    components = _principal(differences)
    if not len(components):
        return torch.zeros_like(mean).float()
    return _scaled_to(components[0] * torch.sign(components[0] @ mean), mean)


def logistic(positive: Float[Tensor, "sample d_model"], negative: Float[Tensor, "sample d_model"]) -> Float[Tensor, " d_model"]:
    """Weights of an L2-regularised logistic regression of positive against negative, scaled to the mean difference's norm.

    Unlike the mean difference it discounts dimensions in which both kinds of text vary a lot. Solved exactly (L-BFGS, float64) in
    the span of the texts, which is small beside d_model.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    mean = positive.double().mean(0) - negative.double().mean(0)
    texts = torch.cat([positive, negative]).double()
    texts = texts - texts.mean(0)
    size = texts.square().sum(1).mean().sqrt()
    if size == 0:
        return torch.zeros_like(mean).float()
    texts = texts * (texts.shape[1] ** 0.5 / size)
    components = _principal(texts)
    features = (texts @ components.T).numpy()
    signs = torch.cat([torch.ones(len(positive)), -torch.ones(len(negative))]).double().numpy()

    def loss(parameters):  # type: ignore[no-untyped-def]
        import numpy as np

        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (features @ weights + bias)
        pull = -signs * expit(-margins) / len(signs)
        value = np.logaddexp(0, -margins).mean() + 0.5 * RIDGE * weights @ weights
        return value, np.append(features.T @ pull + RIDGE * weights, pull.sum())

    fitted = minimize(
        loss, torch.zeros(len(components) + 1).double().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
    )
    return _scaled_to(torch.from_numpy(fitted.x[:-1]) @ components, mean)


def _principal(rows: Float[Tensor, "sample d_model"]) -> Float[Tensor, "component d_model"]:
    """Right singular vectors of `rows` (float64), the largest first, without those of singular values that are zero.

    From the smaller of the two Gram matrices: texts are fewer than dimensions in a large model, and a full SVD at every layer
    would then take longer than making the texts.
    """
    few = rows.shape[0] <= rows.shape[1]
    squares, vectors = torch.linalg.eigh(rows @ rows.T if few else rows.T @ rows)
    kept = squares > squares[-1].clamp_min(0) * 1e-12
    squares, vectors = squares[kept].flip(0), vectors[:, kept].flip(1)
    return vectors.T @ rows / squares.sqrt().unsqueeze(1) if few else vectors.T


def _scaled_to(vector: Float[Tensor, " d_model"], model: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    norm = vector.norm()
    return (vector * (model.norm() / norm) if norm > 0 else torch.zeros_like(model)).float()


ESTIMATORS: Registry[Estimator] = Registry("estimator", "persona_interp.estimators", first=("mean_difference", "pca", "logistic"))
"""Name -> how a direction is made. Entry points of the group ``persona_interp.estimators`` add to it."""


def register_estimator(name: str, new: Estimator) -> None:
    """Add an estimator under `name`.

    Raises:
        InvalidInputError: the name is taken.
    """
    ESTIMATORS.register(name, new)


register_estimator("mean_difference", mean_difference)
register_estimator("pca", pca)
register_estimator("logistic", logistic)


def estimator(name: str) -> Estimator:
    """The estimator called `name`.

    Raises:
        UnknownNameError: there is none; the message lists those there are.
    """
    return ESTIMATORS.find(name)
