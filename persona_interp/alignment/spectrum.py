"""What a typical eigenvalue of a scatter is, where a few massive dimensions hold nearly all of its trace."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linalg import symmetric_eigen

MASSIVE = 1000.0
"""Variance along a principal direction, over the median's, above which it counts as this much only. Residual streams have spectra
that fall over two or three decades; massive activations (Sun et al., arXiv 2402.17762) stand six above."""


def typical_eigenvalue(values: Float[Tensor, " d"]) -> Tensor:
    """The mean eigenvalue, none counted as more than `MASSIVE` times the median: the unit of penalties.

    A plain mean would follow a single massive dimension, and a penalty of a thousandth of it would wipe out all others. The
    median is over eigenvalues above rounding, so fewer rows than dimensions do no harm.

    Args:
        values: of a scatter, in any order; what is below zero is rounding.
    """
    return values.clamp(torch.zeros_like(values), _most(values)).mean()


def calming(scatter: Float[Tensor, "d d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
    """A symmetric map after which no direction varies more than `MASSIVE` times the median, and its inverse.

    It is the identity where none does. Cosines between rows then compare all of them and not one dimension alone.
    """
    values, axes = symmetric_eigen(scatter)
    roots = (values / _most(values).clamp_min(torch.finfo(torch.float64).tiny)).clamp_min(1).sqrt()
    return (axes / roots) @ axes.T, (axes * roots) @ axes.T


def _most(values: Tensor) -> Tensor:
    """The largest value that counts; zero where nothing varies."""
    positive = values[values > values.max().clamp_min(0) * torch.finfo(torch.float64).eps * len(values)]
    return MASSIVE * positive.median() if len(positive) else values.new_zeros(())
