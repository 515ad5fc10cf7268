"""What all alignments share: a linear map from one residual stream into another, fitted on pairs of rows, scored on others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.paired_moments import PairedMoments, folds, merged
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError

N_FOLDS = 4
"""Parts that strengths and ranks are chosen by, each scored by a fit on the others."""

STATE = ("matrix", "source_mean", "target_mean")
"""Names of the fitted tensors in a state."""

Pairs: TypeAlias = Tensor | PairedMoments | Sequence[PairedMoments]
"""Rows of the source, with those of the target beside them; or their moments; or the moments of disjoint folds."""


@dataclass(frozen=True)
class AlignmentScore:
    """How well a map predicts rows it was not fitted on.

    Attributes:
        r2: share of the target's variance around its held-out mean that is predicted, over all dimensions; 0 for a map that
            always gives the mean, negative for one that does worse. Where the target's held-out rows do not vary, this and the
            others are 0.
        cosine: of predicted and actual deviations from their means, all rows taken as one vector: right direction at any length.
        norm_ratio: root mean square of predicted deviations over actual ones.
        count: rows.
    """

    r2: float
    cosine: float
    norm_ratio: float
    count: int


@dataclass
class LinearAlignment(ABC):
    """A map ``y = (x - source_mean) @ matrix + target_mean``, with scikit-learn's `fit`, `transform` and `score`.

    Fitting is in float64, on the device the rows are on.
    """

    def __post_init__(self) -> None:
        self.matrix_: Float[Tensor, "d_source d_target"] | None = None
        self.source_mean_: Tensor | None = None
        self.target_mean_: Tensor | None = None

    def fit(self, source: Pairs, target: Float[Tensor, "target_row d_target"] | None = None) -> LinearAlignment:
        """Fit on rows ``[row d_source]`` and ``[row d_target]``, or on moments of them, or on the moments of disjoint folds.

        Raises:
            InvalidInputError: fewer than two pairs, other numbers of rows, NaN or infinite values.
        """
        parts = as_folds(source, target)
        whole = merged(parts)
        if whole.count < 2:
            raise InvalidInputError(f"an alignment needs at least two pairs of rows, there are {whole.count}")
        self.matrix_ = self._matrix(whole, parts)
        self.source_mean_, self.target_mean_ = self._origins(whole.source_mean, whole.target_mean)
        return self

    def _origins(self, source_mean: Tensor, target_mean: Tensor) -> tuple[Tensor, Tensor]:
        """What the map takes away on the source's side and adds on the target's; the means, but for maps fitted without them."""
        return source_mean, target_mean

    @abstractmethod
    def _matrix(self, whole: PairedMoments, parts: Sequence[PairedMoments]) -> Float[Tensor, "d_source d_target"]:
        """The linear part, from all pairs, and their folds where something has to be chosen."""

    def transform(self, rows: Float[Tensor, "row d_source"]) -> Float[Tensor, "row d_target"]:
        """States of the source as states of the target.

        Raises:
            InvalidInputError: not fitted yet.
            IncompatibleError: another width than it was fitted on.
        """
        matrix, source_mean, target_mean = self._fitted(rows.shape[-1])
        return (rows.to(matrix) - source_mean) @ matrix + target_mean

    def transform_directions(self, directions: Float[Tensor, "row d_source"]) -> Float[Tensor, "row d_target"]:
        """Differences of states: only the linear part, for a difference has no mean. Raises as `transform`."""
        matrix, _, _ = self._fitted(directions.shape[-1])
        return directions.to(matrix) @ matrix

    def score(self, source: Tensor | PairedMoments, target: Float[Tensor, "target_row d_target"] | None = None) -> AlignmentScore:
        """How well rows are predicted. Only rows that were not fitted on mean anything.

        Raises:
            InvalidInputError: as `fit`, or it was not called yet.
            IncompatibleError: another width than it was fitted on, on either side.
        """
        (part,) = as_folds(source, target, n=1)
        matrix, source_mean, target_mean = self._fitted(len(part.source_mean))
        if part.count < 2:
            raise InvalidInputError(f"a score needs at least two pairs of rows, there are {part.count}")
        if len(part.target_mean) != matrix.shape[1]:
            raise IncompatibleError(
                f"{type(self).__name__} was fitted to rows of width {matrix.shape[1]} and cannot be scored on width "
                f"{len(part.target_mean)}: give rows of the same target layer"
            )
        predicted = (matrix * (part.source @ matrix)).sum()
        together, actual = (part.cross * matrix).sum(), part.target.diagonal().sum()
        offset = (part.source_mean - source_mean) @ matrix + target_mean - part.target_mean
        error = actual - 2 * together + predicted + part.count * offset.square().sum()
        rounding = part.count * (10 * torch.finfo(torch.float64).eps) ** 2 * part.target_mean.square().sum()
        if not actual > rounding:
            return AlignmentScore(0.0, 0.0, 0.0, part.count)
        tiny = torch.finfo(torch.float64).tiny
        return AlignmentScore(
            r2=float(1 - error / actual),
            cosine=float(together / (predicted * actual).clamp_min(tiny).sqrt()),
            norm_ratio=float((predicted / actual).clamp_min(0).sqrt()),
            count=part.count,
        )

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings as JSON values, and the fitted tensors."""
        matrix, source_mean, target_mean = self._fitted(None)
        settings = {each.name: getattr(self, each.name) for each in fields(self)}
        return settings, {"matrix": matrix, "source_mean": source_mean, "target_mean": target_mean}

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> LinearAlignment:
        """The inverse of `to_state`.

        Raises:
            FileFormatError: settings this method does not have, or tensors missing or of shapes that do not fit each other.
        """
        unknown = sorted(set(settings) - {each.name for each in fields(cls)})
        if unknown:
            raise FileFormatError(f"{cls.__name__} has no setting {unknown[0]!r}: the state is of another method or version")
        shapes = {name: tuple(tensors[name].shape) if name in tensors else None for name in STATE}
        matrix = shapes["matrix"]
        if not matrix or len(matrix) != 2 or (shapes["source_mean"], shapes["target_mean"]) != (matrix[:1], matrix[1:]):
            raise FileFormatError(f"the state of a {cls.__name__} holds tensors of shapes {shapes}: fit and save it again")
        made = cls(**settings)
        made.matrix_, *means = (tensors[name].double() for name in STATE)
        made.source_mean_, made.target_mean_ = made._origins(*means)
        return made

    def _fitted(self, width: int | None) -> tuple[Tensor, Tensor, Tensor]:
        if self.matrix_ is None or self.source_mean_ is None or self.target_mean_ is None:
            raise InvalidInputError(f"{type(self).__name__} is not fitted: call fit() first")
        if width is not None and width != len(self.matrix_):
            raise IncompatibleError(
                f"{type(self).__name__} was fitted on rows of width {len(self.matrix_)} and cannot take width {width}"
            )
        return self.matrix_, self.source_mean_, self.target_mean_


def as_folds(source: Pairs, target: Tensor | None, n: int = N_FOLDS) -> tuple[PairedMoments, ...]:
    """Whatever `fit` was given, as moments: rows in `n` folds, moments as they are."""
    if isinstance(source, Tensor):
        if target is None:
            raise InvalidInputError("rows of the source were given without those of the target")
        return folds(source, target, min(n, max(1, len(source))))
    if target is not None:
        raise InvalidInputError("moments hold both sides already: leave the target's rows out")
    return (source,) if isinstance(source, PairedMoments) else tuple(source)


def rank_within(rank: int, moments: PairedMoments) -> int:
    """`rank`, checked against the widths.

    Raises:
        InvalidInputError: below 1, or above the smaller width.
    """
    most = min(moments.cross.shape)
    if not 1 <= rank <= most:
        raise InvalidInputError(f"rank {rank} does not fit widths {tuple(moments.cross.shape)}: give 1 to {most}")
    return rank
