"""Decompositions of torch with the types it does not declare, in float64 wherever this package uses them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LINALG: Any = torch.linalg


def symmetric_eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(eigenvalues ascending, eigenvectors in columns) of a symmetric matrix."""
    values, vectors = _LINALG.eigh(matrix)
    return values, vectors


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(left, singular values descending, right transposed), no larger than needed."""
    left, values, right = _LINALG.svd(matrix, full_matrices=False)
    return left, values, right


def solved(matrix: Tensor, right: Tensor) -> Tensor:
    """X in ``matrix @ x = right``."""
    return _LINALG.solve(matrix, right)


def length(rows: Tensor) -> Tensor:
    """Euclidean norm over the last axis, which is kept."""
    return rows.square().sum(dim=-1, keepdim=True).sqrt()
