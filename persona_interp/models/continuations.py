"""Trees of continuations: what a model would say next behind a prompt, and behind each of the tokens asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Grow: TypeAlias = Callable[[int, tuple[int, ...], Tensor], Sequence[int]]
"""(row, path, next-token logits ``[vocab]`` behind the prompt of that row and the tokens of the path) -> the tokens to go on
with, each of which makes a path. The empty path comes first; a row may be begun anew, with that path, if memory runs out."""

Walker: TypeAlias = Callable[[Sequence[Sequence[int]], Grow], None]
"""Walks prompts, given without the tokens they all begin with."""

NextLogits: TypeAlias = Callable[[Sequence[Sequence[int]]], Float[Tensor, "batch vocab"]]


@dataclass(frozen=True)
class Twig:
    """Tokens behind a prompt.

    Attributes:
        row: whose prompt.
        path: the tokens.
    """

    row: int
    path: tuple[int, ...]


def shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all `prompts` begin with; fewer than the shortest has, for something must be left to run. 0 for one."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))  # of sorted rows the outer two differ first
    most = min(map(len, prompts)) - 1
    return next((place for place in range(most) if first[place] != last[place]), max(0, most))


def walk_anew(prompts: Sequence[Sequence[int]], grow: Grow, next_logits: NextLogits, batch_size: int) -> None:
    """Walk without any memory: every path is run from the beginning of its prompt, `batch_size` of them together."""
    level = [Twig(row, ()) for row in range(len(prompts))]
    while level:
        deeper: list[Twig] = []
        for start in range(0, len(level), batch_size):
            some = level[start : start + batch_size]
            logits = next_logits([[*prompts[twig.row], *twig.path] for twig in some])
            for twig, found in zip(some, logits, strict=True):
                deeper += [Twig(twig.row, (*twig.path, token)) for token in grow(twig.row, twig.path, found)]
        level = deeper
