"""Principal components of residuals, layer by layer: in which few directions texts differ most, whatever they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.shapes import Directions


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The components of some texts' residuals at each of several layers.

    Attributes:
        layers: 0-based blocks.
        coordinates: of every text along every component, the mean over the texts taken away, in activation units.
        explained: each component's share of the variance at its layer.
        groups: what kind each text is of. It had no part in the components.
        texts: the texts, for a reader; empty where they are not known.
        cosines: of a direction at each layer with each component; None where none was given.
    """

    layers: tuple[int, ...]
    coordinates: Float[Tensor, "layer sample component"]
    explained: Float[Tensor, "layer component"]
    groups: tuple[str, ...]
    texts: tuple[str, ...] = ()
    cosines: Float[Tensor, "layer component"] | None = None


def principal_components(
    resid: Float[Tensor, "sample layer d_model"],
    layers: Sequence[int],
    groups: Sequence[str],
    texts: Sequence[str] = (),
    *,
    directions: Directions | None = None,
    k: int = 2,
) -> PrincipalComponents:
    """The `k` leading components of each layer, by a singular value decomposition in double precision.

    A component has no sign of its own: it is turned so that the texts of the last group lie on its positive side, on average.

    Example:
        >>> read = Capture("answer")
        >>> rows = model.capture(tokenised, InterventionGraph((read,)))
        >>> found = principal_components(torch.stack([row[read] for row in rows]), range(model.n_layers), groups)

    Args:
        resid: a residual of each text at each layer, such as the mean over an answer.
        layers: which blocks these are.
        groups: one a text.
        texts: one a text, or none.
        directions: one a layer, to be compared with the components, such as a persona vector's.
        k: how many.

    Raises:
        InvalidInputError: lengths do not agree, fewer than `k` + 1 texts, or values that are not finite.
    """
    n = len(resid)
    if len(groups) != n or (texts and len(texts) != n) or len(layers) != resid.shape[1]:
        raise InvalidInputError(
            f"{n} residuals at {resid.shape[1]} layers were given with {len(groups)} groups, {len(texts)} texts and "
            f"{len(layers)} layers: give one of each"
        )
    if not 1 <= k <= min(n - 1, resid.shape[2]):
        raise InvalidInputError(
            f"{k} components were asked of {n} texts of width {resid.shape[2]}: give more texts than components"
        )
    if not bool(torch.isfinite(resid).all()):
        raise InvalidInputError("residuals are NaN or infinite: load the model in bfloat16 or float32")
    centred = resid.double().transpose(0, 1)
    centred = centred - centred.mean(dim=1, keepdim=True)
    _, singular, right = torch.linalg.svd(centred, full_matrices=False)
    axes, variances = right[:, :k], singular.square()
    last = torch.tensor([group == groups[-1] for group in groups])
    sides = torch.einsum("lnd,lkd->lnk", centred[:, last], axes).mean(dim=1)
    axes = axes * torch.where(sides < 0, -1.0, 1.0).to(axes).unsqueeze(-1)
    total = variances.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return PrincipalComponents(
        layers=tuple(layers),
        coordinates=torch.einsum("lnd,lkd->lnk", centred, axes).float(),
        explained=(variances[:, :k] / total).float(),
        groups=tuple(groups),
        texts=tuple(texts),
        cosines=None if directions is None else _cosines(directions, axes),
    )


def _cosines(directions: Directions, axes: Float[Tensor, "layer component d_model"]) -> Float[Tensor, "layer component"]:
    wide = directions.double()
    units = wide / wide.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.einsum("ld,lkd->lk", units, axes).float()
