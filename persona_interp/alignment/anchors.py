"""Relative representations: a direction told by its similarity to anchors, and rebuilt from the same anchors elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import length, symmetric_eigen
from persona_interp.alignment.linear_alignment import N_FOLDS, LinearAlignment, Pairs
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments
from persona_interp.alignment.ridge import STRENGTHS
from persona_interp.alignment.spectrum import calming
from persona_interp.errors import InvalidInputError


@register_alignment("anchors")
@dataclass
class AnchorProjection(LinearAlignment):
    """Cosines with anchors in the source, solved for the row in the target that has the same (the idea of arXiv 2605.09875).

    Anchors are rows spread evenly over those given; each counts as its deviation from the mean, massive directions calmed
    (`alignment.spectrum`), brought to length 1.

    Args:
        n_anchors: rows used at most.
        strength: of the ridge by which the target's row is solved for, in mean eigenvalues of the anchors' scatter; None: the one
            by which anchors left out are found best from the others.

    Attributes:
        strength_: the one used, after `fit`.
    """

    n_anchors: int = 512
    strength: float | None = None

    def fit(self, source: Pairs, target: Float[Tensor, "target_row d_target"] | None = None) -> LinearAlignment:
        """Fit on rows.

        Raises:
            InvalidInputError: moments were given, which hold no single anchor; also as `LinearAlignment.fit`.
        """
        if not isinstance(source, Tensor) or target is None:
            raise InvalidInputError("AnchorProjection needs the rows themselves, not their moments: give source and target rows")
        if self.n_anchors < 2 or (self.strength is not None and not self.strength > 0):
            raise InvalidInputError(f"{self.n_anchors} anchors at strength {self.strength}: give 2 or more, and more than 0")
        chosen = torch.linspace(0, max(0, len(source) - 1), min(self.n_anchors, len(source)), dtype=torch.float32).round().long()
        self._anchors = tuple(rows[chosen.clamp_max(max(0, len(rows) - 1))].double() for rows in (source, target))
        try:
            return super().fit(source, target)
        finally:
            del self._anchors

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        (into, _), (calm, back) = calming(whole.source), calming(whole.target)
        ours = _unit((self._anchors[0] - whole.source_mean) @ into)
        theirs = _unit((self._anchors[1] - whole.target_mean) @ calm)
        self.strength_ = _best_strength(ours, theirs) if self.strength is None else self.strength
        (matrix,) = _maps(ours, theirs, [self.strength_])
        return into @ matrix @ back


def _maps(ours: Tensor, theirs: Tensor, strengths: Sequence[float]) -> list[Float[Tensor, "d_source d_target"]]:
    """For each strength, the map from a source row to the target row with the same cosines."""
    values, axes = symmetric_eigen(theirs.T @ theirs)
    values, turned = values.clamp_min(0), axes.T @ (theirs.T @ ours)
    unit = values.mean()
    if not float(unit) > 0:
        return [torch.zeros(ours.shape[1], theirs.shape[1], dtype=ours.dtype, device=ours.device) for _ in strengths]
    return [(axes @ (turned / (values + strength * unit)[:, None])).T for strength in strengths]


def _best_strength(ours: Tensor, theirs: Tensor) -> float:
    """By the cosine of anchors left out with what the others make of them, all taken as one vector, for lengths are not kept."""
    together, sizes = (torch.zeros(len(STRENGTHS), dtype=torch.float32) for _ in range(2))
    fold = torch.arange(len(ours)) % min(N_FOLDS, len(ours))
    for left_out in range(int(fold.max()) + 1):
        inside, outside = fold != left_out, fold == left_out
        for number, matrix in enumerate(_maps(ours[inside], theirs[inside], STRENGTHS)):
            found = ours[outside] @ matrix
            together[number] += float((found * theirs[outside]).sum())
            sizes[number] += float(found.square().sum())
    cosines = together / sizes.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return STRENGTHS[int(cosines.argmax())]


def _unit(rows: Tensor) -> Tensor:
    return rows / length(rows).clamp_min(torch.finfo(torch.float64).tiny)
