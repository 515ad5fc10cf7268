"""Canonical correlation analysis: what both models see, and a map through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import symmetric_eigen, thin_svd
from persona_interp.alignment.linear_alignment import LinearAlignment, rank_within
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments, merged
from persona_interp.alignment.spectrum import typical_eigenvalue
from persona_interp.errors import InvalidInputError

_HELD_OUT_CORRELATION = 0.1
"""Canonical directions whose held-out correlation is below this are noise."""


@register_alignment("cca")
@dataclass
class CCA(LinearAlignment):
    """Regularised CCA (Hotelling, 1936; Vinod, 1976): canonical coordinates of the source predict those of the target.

    A row goes into the source's canonical coordinates, is scaled by the canonical correlations, and comes out in the target's.

    Args:
        n_components: canonical directions kept; None: those whose correlation on held-out folds is at least 0.1.
        regularisation: added to both scatters' diagonals, in typical eigenvalues (`alignment.spectrum`); 0: CCA as in textbooks.

    Attributes:
        correlations_: canonical correlations on the pairs fitted on, after `fit`.
        n_components_: directions used.
    """

    n_components: int | None = None
    regularisation: float = 1e-3

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        if not self.regularisation >= 0:
            raise InvalidInputError(f"regularisation {self.regularisation:g} of CCA: give 0 or more")
        into, out, correlations = canonical(whole, self.regularisation)
        most = len(correlations)
        kept = self._components(parts, most) if self.n_components is None else min(most, rank_within(self.n_components, whole))
        self.correlations_, self.n_components_ = correlations, kept
        return into[:, :kept] @ (correlations[:kept, None] * out[:kept])

    def _components(self, parts: Sequence[PairedMoments], most: int) -> int:
        if len(parts) < 2:
            return most
        held_out = parts[0]
        into, out, varying = canonical(merged(parts[1:]), self.regularisation)
        if not len(varying):
            return most
        back = _pseudo_inverse(out)
        together = ((into.T @ held_out.cross) * back.T).sum(dim=1)
        sizes = ((into.T @ held_out.source) * into.T).sum(dim=1) * ((back.T @ held_out.target) * back.T).sum(dim=1)
        correlations = together / sizes.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        noise = (correlations < _HELD_OUT_CORRELATION).nonzero().flatten()
        return min(most, max(1, int(noise[0]) if len(noise) else most))


def canonical(moments: PairedMoments, regularisation: float) -> tuple[Tensor, Tensor, Tensor]:
    """(source into canonical coordinates ``[d_source k]``, these into the target ``[k d_target]``, correlations)."""
    from_source, _ = _whitening(moments.source, regularisation)
    from_target, to_target = _whitening(moments.target, regularisation)
    left, correlations, right = thin_svd(from_source.T @ moments.cross @ from_target)
    return from_source @ left, right @ to_target, correlations.clamp(0, 1)


def _pseudo_inverse(matrix: Tensor) -> Tensor:
    left, values, right = thin_svd(matrix)
    kept = values > values.max() * torch.finfo(torch.float64).eps * max(matrix.shape)
    return right[kept].T @ (left[:, kept] / values[kept]).T


def _whitening(scatter: Tensor, regularisation: float) -> tuple[Tensor, Tensor]:
    """A map to coordinates of unit scatter, and back; directions without variance are left out."""
    values, vectors = symmetric_eigen(scatter)
    values = values.clamp_min(0) + regularisation * typical_eigenvalue(values)
    kept = values > values.max() * torch.finfo(torch.float64).eps * len(values)
    root, axes = values[kept].sqrt(), vectors[:, kept]
    return axes / root, root[:, None] * axes.T
