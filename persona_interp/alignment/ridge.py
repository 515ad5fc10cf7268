"""Ridge regression of the target's rows on the source's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import symmetric_eigen
from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.methods import register_alignment
from persona_interp.alignment.paired_moments import PairedMoments, merged
from persona_interp.alignment.spectrum import typical_eigenvalue
from persona_interp.errors import InvalidInputError

STRENGTHS = tuple(10.0**power for power in range(-6, 3))
"""Tried by cross-validation, in typical eigenvalues of the source's scatter (`alignment.spectrum`)."""

Choice = TypeVar("Choice")


@register_alignment("ridge")
@dataclass
class Ridge(LinearAlignment):
    """Least squares with a penalty on the squared entries of the map.

    Args:
        strength: of the penalty, in typical eigenvalues of the source's scatter; None: chosen by cross-validation.

    Attributes:
        strength_: the one used, after `fit`.
    """

    strength: float | None = None

    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        self.strength_ = chosen_strength(self.strength, parts)
        return next(ridge_matrices(whole, [self.strength_]))


def chosen_strength(strength: float | None, parts: Sequence[PairedMoments]) -> float:
    """`strength`, or the best by cross-validation where it is None.

    Raises:
        InvalidInputError: it is negative or NaN.
    """
    if strength is None:
        return best_by_folds(parts, STRENGTHS, ridge_matrices, 1.0)
    if not strength >= 0:
        raise InvalidInputError(f"strength {strength:g} of a ridge: give 0 or more, or None to have it chosen")
    return strength


def ridge_matrices(moments: PairedMoments, strengths: Sequence[float]) -> Iterator[Float[Tensor, "d_source d_target"]]:
    """The map at each strength in turn, from one eigendecomposition. At strength 0 directions without variance are left out."""
    values, vectors = symmetric_eigen(moments.source)
    values = values.clamp_min(0)
    unit, cross = typical_eigenvalue(values), vectors.T @ moments.cross
    floor = values.max() * torch.finfo(torch.float64).eps * len(values)
    for strength in strengths:
        damped = values + strength * unit
        inverse = torch.where(damped > floor, 1 / damped.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        yield vectors @ (inverse[:, None] * cross)


def best_by_folds(
    parts: Sequence[PairedMoments],
    choices: Sequence[Choice],
    matrices: Callable[[PairedMoments, Sequence[Choice]], Iterable[Tensor]],
    without: Choice,
) -> Choice:
    """The choice whose maps, each fitted without one fold, leave the smallest squared error on it.

    With one fold it is `without`. The errors include what a map fitted elsewhere gets wrong about the mean.
    """
    if len(parts) < 2:
        return without
    errors = [0.0] * len(choices)
    for place, held_out in enumerate(parts):
        fitted_on = merged(part for other, part in enumerate(parts) if other != place)
        for number, matrix in enumerate(matrices(fitted_on, choices)):
            gap = (held_out.source_mean - fitted_on.source_mean) @ matrix + fitted_on.target_mean - held_out.target_mean
            spread = (matrix * (held_out.source @ matrix)).sum() - 2 * (held_out.cross * matrix).sum()
            errors[number] += float(spread + held_out.count * gap.square().sum())
    return choices[min(range(len(choices)), key=errors.__getitem__)]
