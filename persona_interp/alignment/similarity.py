"""How alike two representations of the same texts are, whatever their bases: CKA, SVCCA, PWCCA, principal angles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.cca import canonical
from persona_interp.alignment.linalg import thin_svd
from persona_interp.alignment.paired_moments import PairedMoments
from persona_interp.errors import InvalidInputError

Rows = Float[Tensor, "row d"]
_TINY = torch.finfo(torch.float64).tiny


def linear_cka(source: Float[Tensor, "row d_source"], target: Float[Tensor, "row d_target"], *, debiased: bool = True) -> float:
    """Centred kernel alignment with linear kernels (Kornblith et al. 2019), 0 to 1 but for noise.

    Args:
        source: rows of the one.
        target: of the other, of the same texts.
        debiased: with the unbiased estimate of HSIC (Song et al. 2012), about 0 for unrelated rows however wide they are.
    """
    kernels = [_kernel(rows, debiased=debiased) for rows in (source, target)]
    return cka_of_kernels(*kernels, debiased=debiased)


def cka_of_kernels(one: Float[Tensor, "row row"], other: Float[Tensor, "row row"], *, debiased: bool) -> float:
    """CKA of two kernels of `_kernel`."""

    def hsic(left: Tensor, right: Tensor) -> Tensor:
        if not debiased:
            return (left * right).sum()
        n = len(left)
        means = left.sum() * right.sum() / ((n - 1) * (n - 2))
        return (left * right).sum() + means - 2 * left.sum(dim=0) @ right.sum(dim=0) / (n - 2)

    return float(hsic(one, other) / (hsic(one, one) * hsic(other, other)).clamp_min(_TINY).sqrt())


def _kernel(rows: Rows, *, debiased: bool) -> Float[Tensor, "row row"]:
    if len(rows) < 4:
        raise InvalidInputError(f"a similarity of {len(rows)} rows means nothing: give at least 4")
    centred = rows.double() - rows.double().mean(dim=0)
    kernel = centred @ centred.T
    return kernel.fill_diagonal_(0) if debiased else kernel


def svcca(source: Float[Tensor, "row d_source"], target: Float[Tensor, "row d_target"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading principal directions of both sides (Raghu et al. 2017).

    Args:
        source: rows.
        target: rows of the same texts.
        variance: share of each side's variance that its directions hold.
    """
    moments = PairedMoments.of(_leading(source, variance), _leading(target, variance))
    _, _, correlations = canonical(moments, 0.0)
    return float(correlations.mean())


def pwcca(source: Float[Tensor, "row d_source"], target: Float[Tensor, "row d_target"], *, variance: float = 0.99) -> float:
    """Canonical correlations weighted by how much of the source each canonical direction accounts for (Morcos et al. 2018)."""
    left, right = _leading(source, variance), _leading(target, variance)
    into, _, correlations = canonical(PairedMoments.of(left, right), 0.0)
    weights = (into.T @ (left - left.mean(dim=0)).T @ (left - left.mean(dim=0))).abs().sum(dim=1)
    return float((weights * correlations).sum() / weights.sum())


def principal_angles(one: Float[Tensor, "direction d_model"], other: Float[Tensor, "another d_model"]) -> Float[Tensor, " angle"]:
    """Angles between the subspaces two sets of directions span in one basis, in radians, the smallest first."""
    bases = [thin_svd(side.double())[2] for side in (one, other)]
    return thin_svd(bases[0] @ bases[1].T)[1].clamp(-1, 1).acos()


def cka_matrix(
    source: Callable[[int], Rows], n_source: int, target: Callable[[int], Rows], n_target: int
) -> Float[Tensor, "n_source n_target"]:
    """Debiased linear CKA of all pairs of layers; each layer's rows are asked for once.

    Memory: one kernel ``[row row]`` for every layer of the source and one of the target.
    """
    kernels = [_kernel(source(layer), debiased=True) for layer in range(n_source)]
    found = torch.zeros(n_source, n_target, dtype=torch.float64)
    for column in range(n_target):
        other = _kernel(target(column), debiased=True)
        for row, kernel in enumerate(kernels):
            found[row, column] = cka_of_kernels(kernel, other, debiased=True)
    return found


def _leading(rows: Rows, variance: float) -> Float[Tensor, "row kept"]:
    if not 0 < variance <= 1:
        raise InvalidInputError(f"variance {variance:g} is no share: give more than 0 and at most 1")
    centred = rows.double() - rows.double().mean(dim=0)
    left, values, _ = thin_svd(centred)
    share = values.square().cumsum(0) / values.square().sum().clamp_min(_TINY)
    kept = int((share < variance).sum()) + 1
    return left[:, :kept] * values[:kept]
