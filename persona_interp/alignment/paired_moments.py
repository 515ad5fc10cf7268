"""What linear maps between two models are fitted on: first and second moments of rows that both read, streamed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import IncompatibleError, InvalidInputError


@dataclass(frozen=True, eq=False)
class PairedMoments:
    """Moments of pairs of rows that are gone; memory depends on the widths alone. Float64.

    Chunks are merged pairwise (see `residuals.moments`), which stays accurate where means are large beside the spread.

    Attributes:
        count: pairs.
        source_mean: zero where there were none; likewise below.
        target_mean: of the other side.
        source: sums of outer products of the source's deviations from its mean.
        cross: of the source's with the target's.
        target: of the target's.
    """

    count: int
    source_mean: Float[Tensor, " d_source"]
    target_mean: Float[Tensor, " d_target"]
    source: Float[Tensor, "d_source d_source"]
    cross: Float[Tensor, "d_source d_target"]
    target: Float[Tensor, "d_target d_target"]

    @classmethod
    def empty(cls, d_source: int, d_target: int, *, device: torch.device | str = "cpu") -> PairedMoments:
        """No pairs yet."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        square = (zeros(d_source, d_source), zeros(d_source, d_target), zeros(d_target, d_target))
        return cls(0, zeros(d_source), zeros(d_target), *square)

    @classmethod
    def of(cls, source: Float[Tensor, "row d_source"], target: Float[Tensor, "target_row d_target"]) -> PairedMoments:
        """The moments of pairs: row i of the one with row i of the other.

        Raises:
            InvalidInputError: the numbers of rows differ, or a value is NaN or infinite.
        """
        _check(source, target)
        if len(source) == 0:
            return cls.empty(source.shape[1], target.shape[1], device=source.device)
        (x, x_mean), (y, y_mean) = (_deviations(rows, source.device) for rows in (source, target))
        return cls(len(x), x_mean, y_mean, x.T @ x, x.T @ y, y.T @ y)

    def including(self, source: Float[Tensor, "row d_source"], target: Float[Tensor, "target_row d_target"]) -> PairedMoments:
        """These and more pairs. The matrices of this object are reused: it must not be used afterwards."""
        _check(source, target)
        if source.shape[1] != len(self.source_mean) or target.shape[1] != len(self.target_mean):
            raise IncompatibleError(
                f"rows of widths {source.shape[1]} and {target.shape[1]} cannot join moments of widths "
                f"{len(self.source_mean)} and {len(self.target_mean)}: they must come from the same two layers"
            )
        n = len(source)
        if n == 0:
            return self
        (x, x_mean), (y, y_mean) = (_deviations(rows, self.source.device) for rows in (source, target))
        count = self.count + n
        x_gap, y_gap = x_mean - self.source_mean, y_mean - self.target_mean
        share = self.count * n / count
        self.source.addmm_(x.T, x).addr_(x_gap, x_gap, alpha=share)
        self.cross.addmm_(x.T, y).addr_(x_gap, y_gap, alpha=share)
        self.target.addmm_(y.T, y).addr_(y_gap, y_gap, alpha=share)
        means = (self.source_mean + x_gap * (n / count), self.target_mean + y_gap * (n / count))
        return PairedMoments(count, *means, self.source, self.cross, self.target)

    def merged(self, other: PairedMoments) -> PairedMoments:
        """The moments of both sets of pairs; both objects stay as they are.

        Raises:
            IncompatibleError: the widths differ.
        """
        if self.cross.shape != other.cross.shape:
            raise IncompatibleError(
                f"cannot merge moments of widths {tuple(self.cross.shape)} and {tuple(other.cross.shape)}: they must come "
                "from the same two layers"
            )
        count = self.count + other.count
        if count == 0:
            return self
        x_gap, y_gap = other.source_mean - self.source_mean, other.target_mean - self.target_mean
        share, part = self.count * other.count / count, other.count / count
        return PairedMoments(
            count,
            self.source_mean + x_gap * part,
            self.target_mean + y_gap * part,
            (self.source + other.source).addr_(x_gap, x_gap, alpha=share),
            (self.cross + other.cross).addr_(x_gap, y_gap, alpha=share),
            (self.target + other.target).addr_(y_gap, y_gap, alpha=share),
        )


def merged(parts: Iterable[PairedMoments]) -> PairedMoments:
    """All parts together.

    Raises:
        InvalidInputError: there are none.
    """
    total: PairedMoments | None = None
    for part in parts:
        total = part if total is None else total.merged(part)
    if total is None:
        raise InvalidInputError("there are no moments to merge: give at least one part")
    return total


def folds(
    source: Float[Tensor, "row d_source"], target: Float[Tensor, "target_row d_target"], n: int
) -> tuple[PairedMoments, ...]:
    """The moments of every nth pair, from the first, the second, ...: disjoint parts for cross-validation."""
    return tuple(PairedMoments.of(source[start::n], target[start::n]) for start in range(n))


def _deviations(rows: Float[Tensor, "row d"], device: torch.device) -> tuple[Float[Tensor, "row d"], Float[Tensor, " d"]]:
    """Deviations from the mean, and the mean, with one float64 copy of the rows in memory."""
    copied = rows.to(device=device, dtype=torch.float64, copy=True)
    mean = copied.mean(dim=0)
    return copied.sub_(mean), mean


def _check(source: Tensor, target: Tensor) -> None:
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        raise InvalidInputError(
            f"rows of shapes {tuple(source.shape)} and {tuple(target.shape)} are no pairs: give as many rows of each"
        )
    for name, rows in (("source", source), ("target", target)):
        if not torch.isfinite(rows).all():
            raise InvalidInputError(
                f"{int((~torch.isfinite(rows)).sum())} values of the {name}'s rows are NaN or infinite: "
                "leave those pairs out, or read the rows again in float32"
            )
