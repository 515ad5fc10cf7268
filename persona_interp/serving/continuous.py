"""The PyTorch engine behind the server: jobs are admitted between decoding steps, each with a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.models.engines.nnsight.running_batch import RunningBatch, RunningRow
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.steerable import SteerableModel
from persona_interp.serving.job import Job, TokenChance
from persona_interp.serving.worker import Worker

PREFILL_TOKENS = 2048
"""Prompt tokens run between two steps, about: those under way wait meanwhile."""


@dataclass(eq=False)
class _Place:
    job: Job
    row: RunningRow
    sampler: RowSampler
    last: int = 0
    over: bool = False


class Continuous(Worker):
    """Answers up to `concurrent` jobs side by side; a `Backend`.

    Args:
        model: run by PyTorch; only this and its own verbs run it, in turn.
        concurrent: answers made at the same time.
        most_waiting: see `Worker`.

    Raises:
        UnsupportedError: rows of the model cannot be laid side by side (`RunningBatch`).
    """

    top_chances = True

    def __init__(self, model: SteerableModel, *, concurrent: int = 32, most_waiting: int = 512) -> None:
        self._batch: RunningBatch = model.engine.running_batch()  # pyright: ignore[reportAttributeAccessIssue]
        self._name, self._dtype = model.name, model.dtype
        self._places: list[_Place] = []
        self.about = f"PyTorch, up to {concurrent} answers side by side, each with its own persona"
        super().__init__(concurrent, most_waiting)

    def _turn(self) -> None:
        self._let_go()
        room = self.concurrent - len(self._places)
        new = self._arrivals(room, tokens=PREFILL_TOKENS, wait=not self._places) if room else []
        if new:
            self._admit([self._place(job) for job in new if not job.cancelled])
        if self._places:
            self._draw(self._places, self._batch.step([place.last for place in self._places]))

    def _place(self, job: Job) -> _Place:
        watched: dict[int, list[Tensor]] = {}
        for watch in job.watches:
            watched.setdefault(watch.layer, []).append(watch.direction)
        row = RunningRow(job.prompt, job.graph, {layer: torch.stack(found) for layer, found in watched.items()})
        return _Place(job, row, RowSampler(job.sampling, [job.seed], model=self._name, dtype=self._dtype))

    def _admit(self, places: Sequence[_Place]) -> None:
        """Those that come; where they cannot be run together, one by one, so that a bad one takes no other along."""
        if not places:
            return
        try:
            logits = self._batch.admit([place.row for place in places])
        except Exception as error:
            if len(places) > 1:
                for place in places:
                    self._admit([place])
            else:
                places[0].job.fail(error)
            return
        self._places += places
        self._running = len(self._places)
        self._draw(places, logits)

    def _draw(self, places: Sequence[_Place], logits: Float[Tensor, "row vocab"]) -> None:
        for place, scores in zip(places, logits, strict=True):
            try:
                drawn = place.sampler(torch.zeros(1, 1, dtype=torch.long), scores.unsqueeze(0))
                place.last = int(drawn.argmax())
                chance = None if place.job.n_top is None else chances(scores, place.last, place.job.n_top)
                place.over = place.job.take(place.last, chance)
                if place.over:
                    place.job.finish(_readings(place))
            except Exception as error:
                place.over = True
                place.job.fail(error)
        self._let_go()

    def _let_go(self) -> None:
        """Free the slots of answers that are over, and of those nobody waits for."""
        kept = [number for number, place in enumerate(self._places) if not place.over and not place.job.cancelled]
        if len(kept) < len(self._places):
            self._batch.keep(kept)
            self._places = [self._places[number] for number in kept]
            self._running = len(kept)

    def _abandon(self, error: Exception) -> None:
        for place in self._places:
            place.job.fail(error)
        self._places, self._running = [], 0
        self._batch.clear()


def chances(scores: Float[Tensor, " vocab"], token: int, n_top: int) -> TokenChance:
    """What is told of one token, from the logits it was drawn from."""
    log_probs = torch.log_softmax(scores.float(), dim=-1)
    top = torch.topk(log_probs, min(n_top, len(log_probs))) if n_top else None
    listed = () if top is None else tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return TokenChance(token, float(log_probs[token]), listed)


def _readings(place: _Place) -> list[list[float]]:
    """The projections of each watch, in the order of the job's."""
    seen: dict[int, int] = {}
    found: list[list[float]] = []
    for watch in place.job.watches:
        row = seen.get(watch.layer, 0)
        seen[watch.layer] = row + 1
        found.append([float(values[row]) for values in place.row.readings[watch.layer]])
    return found
