"""Means, variances and covariances of samples that pass by once.

Chunks are merged by the pairwise update of Chan, Golub and LeVeque (*Updating formulae and a pairwise algorithm for computing
sample variances*, 1979), which stays accurate where the mean is large beside the spread, as in massive-activation dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import IncompatibleError, InvalidInputError


@dataclass(frozen=True)
class Moments:
    """What is known of some samples after they are gone. Memory does not depend on how many there were.

    Sums are kept in float64 by default, so that the order in which samples come does not show in float32 results.

    Attributes:
        count: how many samples.
        mean: their mean; zero where there were none.
        squares: sums of squared deviations from the mean, per entry.
        scatter: sums of outer products of deviations over the last axis, or None where covariance was not asked for.

    Example:
        >>> seen = Moments.of(first_batch).merged(Moments.of(second_batch))
        >>> seen.mean, seen.variance
    """

    count: int
    mean: Float[Tensor, "*axes d_model"]
    squares: Float[Tensor, "*axes d_model"]
    scatter: Float[Tensor, "*axes d_model d_model"] | None = None

    @classmethod
    def empty(cls, shape: tuple[int, ...], *, covariance: bool = False, dtype: torch.dtype = torch.float64) -> Moments:
        """No samples yet, each of which will have `shape` (the last entry is d_model)."""
        if not shape:
            raise InvalidInputError("samples need at least one axis, d_model: give a shape such as (n_layers, d_model)")
        scatter = torch.zeros(*shape, shape[-1], dtype=dtype) if covariance else None
        return cls(0, torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype), scatter)

    @classmethod
    def of(
        cls, samples: Float[Tensor, "sample *axes d_model"], *, covariance: bool = False, dtype: torch.dtype = torch.float64
    ) -> Moments:
        """The moments of `samples`, taken over the first axis."""
        if samples.ndim < 2:
            raise InvalidInputError(f"samples have shape {tuple(samples.shape)}: give (sample, ..., d_model)")
        count = samples.shape[0]
        if count == 0:
            return cls.empty(tuple(samples.shape[1:]), covariance=covariance, dtype=dtype)
        values = samples.to(dtype)
        mean = values.mean(0)
        deviations = values - mean
        scatter = einsum(deviations, deviations, "s ... d, s ... e -> ... d e") if covariance else None
        return cls(count, mean, deviations.square().sum(0), scatter)

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets of samples together.

        Raises:
            IncompatibleError: shapes differ, or only one of the two keeps a covariance.
        """
        if self.mean.shape != other.mean.shape:
            raise IncompatibleError(
                f"cannot merge moments of samples shaped {tuple(self.mean.shape)} and {tuple(other.mean.shape)}: "
                "they must come from the same layers of the same model"
            )
        if (self.scatter is None) != (other.scatter is None):
            raise IncompatibleError("cannot merge moments with and without covariance: make both with the same `covariance`")
        count = self.count + other.count
        if count == 0:
            return self
        gap = other.mean - self.mean
        share = self.count * other.count / count
        scatter = None
        if self.scatter is not None and other.scatter is not None:
            scatter = self.scatter + other.scatter + einsum(gap, gap, "... d, ... e -> ... d e") * share
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.squares + other.squares + gap.square() * share,
            scatter,
        )

    def including(self, samples: Float[Tensor, "sample *axes d_model"]) -> Moments:
        """These moments with `samples` counted in."""
        return self.merged(Moments.of(samples, covariance=self.scatter is not None, dtype=self.mean.dtype))

    @property
    def variance(self) -> Float[Tensor, "*axes d_model"]:
        """Unbiased variance per entry; needs two samples."""
        return self.squares / self._degrees_of_freedom()

    @property
    def covariance(self) -> Float[Tensor, "*axes d_model d_model"]:
        """Unbiased covariance over the last axis; needs two samples and `covariance=True`."""
        return self._scatter() / self._degrees_of_freedom()

    @property
    def gram(self) -> Float[Tensor, "*axes d_model d_model"]:
        """Sum of outer products of the samples themselves (not centred); needs `covariance=True`."""
        return self._scatter() + einsum(self.mean, self.mean, "... d, ... e -> ... d e") * self.count

    def _scatter(self) -> Float[Tensor, "*axes d_model d_model"]:
        if self.scatter is None:
            raise InvalidInputError("these moments keep no covariance: make them with covariance=True")
        return self.scatter

    def _degrees_of_freedom(self) -> int:
        if self.count < 2:
            raise InvalidInputError(f"a variance needs two samples, there are {self.count}")
        return self.count - 1


def merge(parts: Iterable[Moments]) -> Moments:
    """The moments of all `parts` together.

    Raises:
        InvalidInputError: there are none.
    """
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total.merged(part)
    if total is None:
        raise InvalidInputError("there are no moments to merge")
    return total
