"""Massive-activation dimensions: a handful of entries of the residual stream that dwarf all others.

They are a property of the model (Sun et al., *Massive Activations in Large Language Models*, arXiv 2402.17762), carry little of
what a text says, and can swamp a mean difference. They are reported, not removed: what to do about them is the user's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.records import Record

MEDIAN_RATIO = 100.0
"""A dimension is massive where its mean absolute value is this many times the median of its layer (the cited paper uses 1000 for
single tokens; averages over positions are milder)."""

DIRECTION_SHARE = 0.25
"""A dimension swamps a direction where it holds at least this share of the squared norm."""

_REPORTED_PER_LAYER = 5


@dataclass(frozen=True)
class MassiveDimension(Record):
    """One dimension that stands out at one layer.

    Attributes:
        layer: 0-based block whose output it is.
        dimension: index into d_model.
        mean_abs: mean absolute value over the kept texts.
        median_ratio: `mean_abs` over the median of that layer's dimensions.
        direction_share: its share of the direction's squared norm, 0 to 1.
    """

    json_kind = "massive dimension"

    layer: int
    dimension: int
    mean_abs: float
    median_ratio: float
    direction_share: float


def massive_dimensions(
    directions: Float[Tensor, "layer d_model"], mean_abs: Float[Tensor, "layer d_model"], layers: Sequence[int]
) -> tuple[MassiveDimension, ...]:
    """The dimensions that are massive, or that swamp the direction; at most five a layer, the largest first.

    Args:
        directions: a persona vector.
        mean_abs: mean absolute value of the residuals it was made from.
        layers: which blocks the rows are.
    """
    found: list[MassiveDimension] = []
    median = mean_abs.median(dim=1, keepdim=True).values.clamp_min(torch.finfo(torch.float32).tiny)
    ratios = mean_abs / median
    squares = directions.double().square()
    shares = squares / squares.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    for row, layer in enumerate(layers):
        standing_out = ((ratios[row] >= MEDIAN_RATIO) | (shares[row] >= DIRECTION_SHARE)).nonzero().flatten().tolist()
        standing_out.sort(key=lambda dimension: -float(mean_abs[row, dimension]))
        found.extend(
            MassiveDimension(
                layer,
                dimension,
                float(mean_abs[row, dimension]),
                float(ratios[row, dimension]),
                float(shares[row, dimension]),
            )
            for dimension in standing_out[:_REPORTED_PER_LAYER]
        )
    return tuple(found)
