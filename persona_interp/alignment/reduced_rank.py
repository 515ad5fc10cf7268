"""Reduced-rank regression: a ridge map that goes through a few directions only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import symmetric_eigen
from persona_interp.alignment.linear_alignment import LinearAlignment, rank_within
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments
from persona_interp.alignment.ridge import best_by_folds, chosen_strength, ridge_matrices


@register_alignment("reduced-rank")
@dataclass
class ReducedRank(LinearAlignment):
    """Ridge regression whose predictions are projected onto their leading principal directions (Izenman, 1975).

    Args:
        rank: directions kept; None: chosen by cross-validation from the powers of two and the smaller width.
        strength: of the ridge, as in `Ridge`; None: chosen by cross-validation, before the rank.

    Attributes:
        rank_: the one used, after `fit`.
        strength_: likewise.
    """

    rank: int | None = None
    strength: float | None = None

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        strength = self.strength_ = chosen_strength(self.strength, parts)

        def at_ranks(moments: PairedMoments, ranks: Sequence[int]) -> Iterator[Tensor]:
            (matrix,) = ridge_matrices(moments, [strength])
            _, axes = symmetric_eigen(matrix.T @ moments.source @ matrix)
            leading = axes.flip(1)
            return (matrix @ leading[:, :rank] @ leading[:, :rank].T for rank in ranks)

        most = min(whole.cross.shape)
        ranks = [*(2**power for power in range(most.bit_length()) if 2**power < most), most]
        chosen = best_by_folds(parts, ranks, at_ranks, ranks[-1]) if self.rank is None else rank_within(self.rank, whole)
        self.rank_ = chosen
        return next(at_ranks(whole, [chosen]))
