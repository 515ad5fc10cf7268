"""Relative representations: a direction told by its similarity to anchors, and rebuilt from the same anchors elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import length, solved
from persona_interp.alignment.linear_alignment import LinearAlignment, Pairs
from persona_interp.alignment.paired_moments import PairedMoments
from persona_interp.errors import InvalidInputError


@dataclass
class AnchorProjection(LinearAlignment):
    """Cosines with anchors in the source, solved for the row in the target that has the same (the idea of arXiv 2605.09875).

    Anchors are the first rows; each counts as its deviation from the mean, brought to length 1.

    Args:
        n_anchors: rows used at most.
        strength: of the ridge by which the target's row is solved for, in mean eigenvalues of the anchors' scatter.
    """

    n_anchors: int = 512
    strength: float = 0.1

    def fit(self, source: Pairs, target: Float[Tensor, "target_row d_target"] | None = None) -> LinearAlignment:
        """Fit on rows.

        Raises:
            InvalidInputError: moments were given, which hold no single anchor; also as `LinearAlignment.fit`.
        """
        if not isinstance(source, Tensor) or target is None:
            raise InvalidInputError("AnchorProjection needs the rows themselves, not their moments: give source and target rows")
        if self.n_anchors < 2 or not self.strength > 0:
            raise InvalidInputError(f"{self.n_anchors} anchors at strength {self.strength:g}: give 2 or more, and more than 0")
        self._anchors = (source[: self.n_anchors].double(), target[: self.n_anchors].double())
        try:
            return super().fit(source, target)
        finally:
            del self._anchors

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        ours = _unit(self._anchors[0] - whole.source_mean)
        theirs = _unit(self._anchors[1] - whole.target_mean)
        gram = theirs.T @ theirs
        if not gram.any():
            return torch.zeros_like(whole.cross)
        ridge = self.strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return solved(gram + ridge, theirs.T @ ours).T


def _unit(rows: Tensor) -> Tensor:
    return rows / length(rows).clamp_min(torch.finfo(torch.float64).tiny)
