"""Directions and what is known about them per layer, from residuals that stay on disk.

Two passes over the cached residuals of the kept pairs: moments, then projections. Only moments, a batch of rows and one number
per text and layer are in memory; an estimator other than the mean difference also holds one layer of all texts at a time.

Held-out numbers split the *questions* in two halves: the direction of one half is scored on the texts of the other, both ways
round, and the two results are averaged. Separation so measured does not say how well steering works at a layer.

==================  ===========================================================================================
``resid_norm``      mean norm of the residuals at single answer positions, over all answers read: what a dose is compared to
                    (added by `extract`)
``positive_norm``   norm of the mean residual of the positive texts
``negative_norm``   the same of the negative texts
``cohens_d``        held-out standardised difference of the projections of positive and negative texts
``auroc``           held-out probability that a positive text projects further than a negative one
``split_half``      cosine between the directions of the two halves
==================  ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.residuals.cache import ResidualCache
from persona_interp.residuals.moments import Moments, merge
from persona_interp.vectors.estimators import Estimator, mean_difference

_ROWS_AT_ONCE = 32
HALVES = (0, 1)


@dataclass(frozen=True)
class PairedResiduals:
    """Where the residuals of the kept pairs lie.

    Attributes:
        cache: holds them.
        pooling: which of the cached tensors is meant.
        positive: cache keys of the positive texts, one a pair.
        negative: those of the negative texts, in the same order.
        halves: 0 or 1 for each pair, so that no question is in both; all 0 where that cannot be.
    """

    cache: ResidualCache
    pooling: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    halves: tuple[int, ...]

    @property
    def split(self) -> bool:
        """Whether both halves have pairs."""
        return set(self.halves) == set(HALVES)

    def keys(self, sign: int, half: int | None = None) -> list[str]:
        """Cache keys of the positive (1) or negative (-1) texts, of one half or all."""
        keys = self.positive if sign > 0 else self.negative
        return [key for key, place in zip(keys, self.halves, strict=True) if half in (None, place)]

    def batches(self, sign: int, half: int) -> Iterator[Float[Tensor, "sample layer d_model"]]:
        """The residuals of one sign and half, a few texts at a time."""
        keys = self.keys(sign, half)
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            batch = torch.stack([self.cache.read(key, self.pooling) for key in keys[start : start + _ROWS_AT_ONCE]])
            if not bool(torch.isfinite(batch).all()):
                layers = (~torch.isfinite(batch)).any(dim=2).any(dim=0).nonzero().flatten().tolist()
                raise PersonaInterpError(
                    f"residuals at layers {layers} are NaN or infinite: "
                    "load the model in bfloat16 or float32, and extract into another folder"
                )
            yield batch

    def at_layer(self, sign: int, layer: int) -> Float[Tensor, "sample d_model"]:
        """The residuals of all texts of one sign at one layer, in the order of the pairs."""
        return torch.stack([self.cache.read(key, self.pooling, layer=layer) for key in self.keys(sign)])


@dataclass(frozen=True)
class Summary:
    """What `summarise` found.

    Attributes:
        directions: of all kept pairs.
        mean_abs: mean absolute residual per dimension, over both signs.
        statistics: name -> value per layer, see the module's table (without ``resid_norm``).
    """

    directions: Float[Tensor, "layer d_model"]
    mean_abs: Float[Tensor, "layer d_model"]
    statistics: dict[str, tuple[float | None, ...]]


def summarise(residuals: PairedResiduals, estimate: Estimator) -> Summary:
    """Directions by `estimate`, and their statistics.

    Raises:
        InvalidInputError: there are no pairs.
        PersonaInterpError: residuals are NaN or infinite.
    """
    moments: dict[tuple[int, int], Moments] = {}
    absolute: Moments | None = None
    for sign in (1, -1):
        for half in sorted(set(residuals.halves)):
            for batch in residuals.batches(sign, half):
                seen, sizes = Moments.of(batch), Moments.of(batch.abs())
                moments[sign, half] = moments[sign, half].merged(seen) if (sign, half) in moments else seen
                absolute = sizes if absolute is None else absolute.merged(sizes)
    if absolute is None:
        raise InvalidInputError("there are no pairs to make a vector from")
    means = {sign: merge(part for (of, _), part in moments.items() if of == sign).mean for sign in (1, -1)}
    if estimate is mean_difference:
        directions = (means[1] - means[-1]).float()
        by_half = [(moments[1, half].mean - moments[-1, half].mean).float() for half in HALVES] if residuals.split else []
    else:
        directions, *by_half = _estimates(residuals, estimate)
    n_layers = directions.shape[0]
    unknown: tuple[float | None, ...] = (None,) * n_layers
    statistics: dict[str, tuple[float | None, ...]] = {
        "positive_norm": tuple(means[1].norm(dim=1).tolist()),
        "negative_norm": tuple(means[-1].norm(dim=1).tolist()),
        "cohens_d": unknown,
        "auroc": unknown,
        "split_half": unknown,
    }
    if by_half:
        statistics |= _held_out(residuals, by_half)
        statistics["split_half"] = _cosines(by_half[0], by_half[1])
    return Summary(directions, absolute.mean.float(), statistics)


def _estimates(residuals: PairedResiduals, estimate: Estimator) -> list[Float[Tensor, "layer d_model"]]:
    """Directions of all pairs and, where there are two halves, of each half; every text is read once a layer."""
    halves = torch.tensor(residuals.halves)
    chosen = [torch.ones_like(halves, dtype=torch.bool), *((halves == half) for half in HALVES if residuals.split)]
    n_layers = residuals.cache.read(residuals.positive[0], residuals.pooling).shape[0]
    found: list[list[Float[Tensor, " d_model"]]] = [[] for _ in chosen]
    for layer in range(n_layers):
        positive, negative = residuals.at_layer(1, layer), residuals.at_layer(-1, layer)
        for pairs, directions in zip(chosen, found, strict=True):
            directions.append(estimate(positive[pairs], negative[pairs]))
    return [torch.stack(directions) for directions in found]


def _held_out(
    residuals: PairedResiduals, by_half: Sequence[Float[Tensor, "layer d_model"]]
) -> dict[str, tuple[float | None, ...]]:
    """Both statistics of the texts of each half, projected on the direction of the other."""
    folds: list[tuple[list[float | None], list[float | None]]] = []
    for half in HALVES:
        direction = by_half[1 - half].double()
        scores = {
            sign: torch.cat(
                [
                    einsum(batch.double(), direction, "sample layer d_model, layer d_model -> sample layer")
                    for batch in residuals.batches(sign, half)
                ]
            )
            for sign in (1, -1)
        }
        folds.append((cohens_d(scores[1], scores[-1]), auroc(scores[1], scores[-1])))
    return {
        "cohens_d": tuple(_both(a, b) for a, b in zip(folds[0][0], folds[1][0], strict=True)),
        "auroc": tuple(_both(a, b) for a, b in zip(folds[0][1], folds[1][1], strict=True)),
    }


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2


def cohens_d(positive: Float[Tensor, "p layer"], negative: Float[Tensor, "n layer"]) -> list[float | None]:
    """Difference of means over the pooled standard deviation (root of the mean of both variances), per layer.

    None where a sign has fewer than two scores, or the scores do not vary.
    """
    if len(positive) < 2 or len(negative) < 2:
        return [None] * positive.shape[1]
    spread = ((positive.var(0) + negative.var(0)) / 2).sqrt()
    gap = positive.mean(0) - negative.mean(0)
    return [float(g / s) if s > 0 else None for g, s in zip(gap, spread, strict=True)]


def auroc(positive: Float[Tensor, "p layer"], negative: Float[Tensor, "n layer"]) -> list[float | None]:
    """Probability that a positive score exceeds a negative one, ties counting half, per layer (Mann and Whitney's U)."""
    from scipy.stats import rankdata

    n_positive, n_negative = len(positive), len(negative)
    if not n_positive or not n_negative:
        return [None] * positive.shape[1]
    ranks = rankdata(torch.cat([positive, negative]).numpy(), axis=0)[:n_positive].sum(0)
    u = ranks - n_positive * (n_positive + 1) / 2
    return [float(value) for value in u / (n_positive * n_negative)]


def _cosines(first: Float[Tensor, "layer d_model"], second: Float[Tensor, "layer d_model"]) -> tuple[float | None, ...]:
    dots = (first.double() * second.double()).sum(1)
    sizes = first.double().norm(dim=1) * second.double().norm(dim=1)
    return tuple(float(dot / size) if size > 0 else None for dot, size in zip(dots, sizes, strict=True))
