"""Which layer of the target corresponds to which of the source."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError, unknown_name

WAYS = ("best", "monotone", "depth")


def layer_map(similarity: Float[Tensor, "source_layer target_layer"], how: str = "best") -> tuple[int, ...]:
    """The target's layer for each of the source's.

    Args:
        similarity: of all pairs of layers, larger is more alike.
        how: ``best``: the most similar one, layer by layer; ``monotone``: never going back, with the largest sum of similarities
            (dynamic programming; ties go to the earlier layer); ``depth``: at equal relative depth, a control that ignores them.

    Raises:
        InvalidInputError: a similarity is NaN, or there is none.
        UnknownNameError: no such `how`.
    """
    n_source, n_target = similarity.shape
    if how not in WAYS:
        raise unknown_name("layer map", how, WAYS)
    if not n_source or not n_target or torch.isnan(similarity).any():
        raise InvalidInputError(f"similarities of {n_source} by {n_target} layers hold NaN or nothing: no layers can be matched")
    if how == "best":
        return tuple(int(column) for column in similarity.argmax(dim=1))
    if how == "depth":
        return tuple(equal_depth(layer, n_source, n_target) for layer in range(n_source))
    return _monotone(similarity)


def equal_depth(layer: int, n_source: int, n_target: int) -> int:
    """The target's layer whose middle lies nearest to the same share of the depth."""
    return min(n_target - 1, max(0, round((layer + 0.5) / n_source * n_target - 0.5)))


def _monotone(similarity: Tensor) -> tuple[int, ...]:
    n_source, n_target = similarity.shape
    total = similarity[0].clone()
    came_from: list[Tensor] = []
    for layer in range(1, n_source):
        best, where = total[0].clone(), 0
        reached, origin = torch.empty_like(total), torch.zeros(n_target, dtype=torch.long)
        for place in range(n_target):
            if total[place] > best:
                best, where = total[place].clone(), place
            reached[place], origin[place] = best + similarity[layer, place], where
        total = reached
        came_from.append(origin)
    path = [int(total.argmax())]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1]]))
    return tuple(reversed(path))
