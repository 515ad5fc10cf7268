"""Walking a tree of continuations in llama.cpp: rows that branch off the row of the prompt share its keys and values."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from persona_interp.models.continuations import Grow
from persona_interp.models.engines.llama_cpp.session import TOKENS_PER_CALL, LlamaContext, LlamaWeights

_BRANCHES = 48
"""Paths run together."""


class LlamaWalk:
    """Walks prompts of one model that begin alike, one after the other; a `Walker`.

    Args:
        weights: kept alive.
        shared: the tokens all prompts begin with, run once; may be empty.
        longest: tokens of a prompt and a path behind it, at most.
        n_threads: to compute with.
        exact_cache: keys and values in float32 instead of float16.
    """

    def __init__(self, weights: LlamaWeights, shared: Sequence[int], *, longest: int, n_threads: int, exact_cache: bool) -> None:
        self._n_shared, self._longest = len(shared), longest
        self._context = LlamaContext(
            weights,
            n_rows=1 + _BRANCHES,
            n_tokens=longest + min(_BRANCHES * longest, TOKENS_PER_CALL),
            n_threads=n_threads,
            exact_cache=exact_cache,
            branching=True,
        )
        if shared:
            self._read(shared, 0)

    def __call__(self, rows: Sequence[Sequence[int]], grow: Grow) -> None:
        """Walk the prompts whose ends are `rows`."""
        for row, ids in enumerate(rows):
            self._context.drop(0, self._n_shared)
            n_prompt = self._n_shared + len(ids)
            waiting = [(token,) for token in grow(row, (), self._read(ids, self._n_shared)[0])]
            while waiting:
                depth = len(waiting[0])
                now = [path for path in waiting if len(path) == depth][: min(_BRANCHES, TOKENS_PER_CALL // depth)]
                waiting = [path for path in waiting if path not in now]
                for path, logits in zip(now, self._branches(now, n_prompt), strict=True):
                    waiting += [(*path, token) for token in grow(row, path, logits)]

    def close(self) -> None:
        """Free it."""
        self._context.close()

    def _read(self, ids: Sequence[int], first: int) -> Float[Tensor, "one vocab"]:
        """Run tokens of the prompt; the logits behind the last one."""
        logits: Tensor | None = None
        for begin in range(0, len(ids), TOKENS_PER_CALL):
            part = list(ids[begin : begin + TOKENS_PER_CALL])
            last = begin + len(part) == len(ids)
            keep = [False] * (len(part) - 1) + [last]
            logits = self._context.call(range(1), [part], [first + begin], [keep])
        if logits is None:
            raise RuntimeError("no tokens were run")
        return logits

    def _branches(self, paths: Sequence[tuple[int, ...]], n_prompt: int) -> Float[Tensor, "path vocab"]:
        """The logits behind paths of equal length, each run in a row of its own that begins with the prompt."""
        rows = range(1, 1 + len(paths))
        self._context.branch(rows)
        try:
            keep = [[False] * (len(paths[0]) - 1) + [True]] * len(paths)
            return self._context.call(rows, paths, [n_prompt] * len(paths), keep)
        finally:
            for row in rows:
                self._context.drop(row, 0)
