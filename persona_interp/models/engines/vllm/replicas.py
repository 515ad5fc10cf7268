"""Several copies of one model, each in processes and on GPUs of its own, that share the rows of a call: data parallelism."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.capabilities import VLLM
from persona_interp.models.engines.protocol import Answered, Engine, OnStep, Step
from persona_interp.models.sampling import Sampling

T = TypeVar("T")
_GPUS = "CUDA_VISIBLE_DEVICES"


class Replicas(Engine):
    """Gives row i of a call to copy i modulo their number. A row's result does not depend on which copy it falls to.

    Args:
        copies: engines of the same model, closed with this one.
    """

    capabilities = VLLM
    packs_rows = True

    def __init__(self, copies: Sequence[Engine]) -> None:
        first = copies[0]
        self._copies = tuple(copies)
        self.name, self.config, self.n_layers, self.n_ctx = first.name, first.config, first.n_layers, first.n_ctx
        self.file_fingerprint = first.file_fingerprint

    @property
    def dtype(self) -> torch.dtype:
        """See `Engine.dtype`."""
        return self._copies[0].dtype

    @property
    def device(self) -> torch.device:
        """See `Engine.device`."""
        return self._copies[0].device

    @property
    def runs_here(self) -> bool:
        """See `Engine.runs_here`."""
        return False

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._copies[0].fingerprint

    def close(self) -> None:
        """Close every copy."""
        for copy in self._copies:
            copy.close()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        graph: InterventionGraph,
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        end_ids: frozenset[int],
        on_step: OnStep | None = None,
    ) -> list[Answered]:
        """See `Engine.generate`. Steps are told one at a time; what `on_step` raises ends the work of every copy."""
        turn, broken = threading.Lock(), threading.Event()

        def run(copy: Engine, rows: Sequence[int]) -> list[Answered]:
            def told(step: Step) -> Sequence[bool]:
                with turn:
                    if broken.is_set() or on_step is None:
                        return [broken.is_set()] * len(step.rows)
                    own = Step([rows[at] for at in step.rows], lambda: step.tokens, lambda row: step.captured(rows.index(row)))
                    try:
                        return on_step(own)
                    except BaseException:
                        broken.set()
                        raise

            return copy.generate(
                [prompts[row] for row in rows],
                graph.for_rows(rows),
                sampling,
                [seeds[row] for row in rows],
                end_ids=end_ids,
                on_step=None if on_step is None else told,
            )

        return self._shared(len(prompts), run)

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Float[Tensor, "batch vocab"]:
        """See `Engine.next_logits`."""
        run: Callable[[Engine, Sequence[int]], list[Tensor]] = lambda copy, rows: list(  # noqa: E731
            copy.next_logits([prompts[row] for row in rows], graph.for_rows(rows))
        )
        return torch.stack(self._shared(len(prompts), run))

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Captured]:
        """See `Engine.capture`."""
        return self._shared(len(rows), lambda copy, own: copy.capture([rows[row] for row in own], graph.for_rows(own)))

    def log_probs(
        self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]
    ) -> list[list[Float[Tensor, " n_answer"]]]:
        """See `Engine.log_probs`."""

        def run(copy: Engine, own: Sequence[int]) -> list[tuple[Tensor, ...]]:
            found = copy.log_probs([rows[row] for row in own], [graph.for_rows(own) for graph in graphs])
            return list(zip(*found, strict=True)) if found else [() for _ in own]

        by_row = self._shared(len(rows), run)
        return [[found[place] for found in by_row] for place in range(len(graphs))]

    def _shared(self, n_rows: int, run: Callable[[Engine, Sequence[int]], Sequence[T]]) -> list[T]:
        """The result of each row, the copies working side by side."""
        shares = [range(first, n_rows, len(self._copies)) for first in range(min(n_rows, len(self._copies)))]
        found: dict[int, T] = {}
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            waiting = [pool.submit(run, copy, rows) for copy, rows in zip(self._copies, shares, strict=False)]
            for rows, each in zip(shares, waiting, strict=True):
                found |= dict(zip(rows, each.result(), strict=True))
        return [found[row] for row in range(n_rows)]


@contextmanager
def gpus_of(copy: int, n_copies: int, each: int) -> Iterator[None]:
    """Show the processes that are started in this block the GPUs of one copy alone; where there is no GPU nothing changes.

    Raises:
        InvalidInputError: there are fewer GPUs than the copies need.
    """
    n_here = torch.cuda.device_count()
    if n_copies == 1 or not n_here:
        yield
        return
    before = os.environ.get(_GPUS)
    names = [name.strip() for name in before.split(",")] if before else [str(index) for index in range(n_here)]
    if len(names) < n_copies * each:
        raise InvalidInputError(
            f"{n_copies} replicas of {each} GPUs need {n_copies * each}, and {len(names)} are here: ask for fewer"
        )
    os.environ[_GPUS] = ",".join(names[copy * each : (copy + 1) * each])
    try:
        yield
    finally:
        os.environ.pop(_GPUS)
        if before is not None:
            os.environ[_GPUS] = before
