"""Orthogonal Procrustes: the rotation that brings the source's rows nearest to the target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import thin_svd
from persona_interp.alignment.linear_alignment import LinearAlignment, rank_within
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments


@register_alignment("procrustes")
@dataclass
class Procrustes(LinearAlignment):
    """The polar factor of the cross-scatter (Schönemann, *A generalized solution of the orthogonal Procrustes problem*, 1966).

    For unequal widths the map is semi-orthogonal: it keeps lengths of what lies in the smaller space. Directions along which the
    rows do not vary together, as with fewer rows than dimensions, are mapped to 0: nothing says where they belong.

    Args:
        rank: leading singular directions kept; the rest is mapped to 0. None: all.
        scaling: multiply by the least-squares scale.
        centring: fit deviations from the means; else the rows themselves, means included, and the map is ``y = x @ matrix``.
    """

    rank: int | None = None
    scaling: bool = True
    centring: bool = True

    def _origins(self, source_mean: Tensor, target_mean: Tensor) -> tuple[Tensor, Tensor]:
        if self.centring:
            return source_mean, target_mean
        return torch.zeros_like(source_mean), torch.zeros_like(target_mean)

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        cross, source = whole.cross, whole.source
        if not self.centring:
            cross = cross + whole.count * torch.outer(whole.source_mean, whole.target_mean)
            source = source + whole.count * torch.outer(whole.source_mean, whole.source_mean)
        left, values, right = thin_svd(cross)
        kept = int((values > values[0] * torch.finfo(torch.float64).eps * 10 * max(cross.shape)).sum())
        if self.rank is not None:
            kept = min(kept, rank_within(self.rank, whole))
        matrix = left[:, :kept] @ right[:kept]
        if self.scaling:
            spread = (matrix * (source @ matrix)).sum()
            matrix = matrix * (values[:kept].sum() / spread.clamp_min(torch.finfo(torch.float64).tiny))
        return matrix
