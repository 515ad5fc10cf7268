"""vLLM behind the server: it schedules the requests itself, each with a persona of its own."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.engines.vllm.running import Drawn, RunningRequests
from persona_interp.models.steerable import SteerableModel
from persona_interp.serving.job import Job, TokenChance
from persona_interp.serving.one_at_a_time import projected, watching
from persona_interp.serving.worker import Worker


class Requests(Worker):
    """Answers as many jobs side by side as vLLM schedules; a `Backend`.

    Args:
        model: run by vLLM.
        concurrent: jobs given to vLLM at the same time.
        most_waiting: see `Worker`.
    """

    top_chances = True

    def __init__(self, model: SteerableModel, *, concurrent: int = 256, most_waiting: int = 512) -> None:
        self._requests: RunningRequests = model.engine.running_requests()  # pyright: ignore[reportAttributeAccessIssue]
        self._jobs: dict[str, Job] = {}
        self.about = f"vLLM, up to {concurrent} answers side by side, each with its own persona"
        super().__init__(concurrent, most_waiting)

    def _turn(self) -> None:
        for key in [key for key, job in self._jobs.items() if job.cancelled]:
            self._end(key)
        room = self.concurrent - len(self._jobs)
        for job in self._arrivals(room, wait=not self._jobs) if room else []:
            if not job.cancelled:
                self._begin(job)
        if self._jobs:
            for drawn in self._requests.step():
                self._take(drawn)

    def _begin(self, job: Job) -> None:
        try:
            graph = InterventionGraph((*job.graph.nodes, *watching(job)))
            ends = job.answer.end_ids
            key = self._requests.admit(job.prompt, graph, job.sampling, job.seed, end_ids=ends, n_top=job.n_top)
        except Exception as error:
            job.fail(error)
            return
        self._jobs[key] = job
        self._running = len(self._jobs)

    def _take(self, drawn: Drawn) -> None:
        job, over = self._jobs[drawn.key], drawn.finished
        for place, token in enumerate(drawn.tokens):
            chance = None if job.n_top is None else _chance(token, drawn.chances[place], job.n_top)
            if job.take(token, chance):
                over = True
                break
        if over:
            self._end(drawn.key)

    def _end(self, key: str) -> None:
        """Free the slot of an answer that is over, or that nobody waits for."""
        job = self._jobs.pop(key)
        self._running = len(self._jobs)
        try:
            captured = self._requests.end(key)
            job.finish(projected(job, captured))
        except Exception as error:
            job.fail(error)

    def _abandon(self, error: Exception) -> None:
        for key, job in list(self._jobs.items()):
            job.cancelled = True
            self._end(key)
            job.fail(error)


def _chance(token: int, chances: dict[int, float], n_top: int) -> TokenChance:
    top: Sequence[tuple[int, float]] = sorted(chances.items(), key=lambda each: -each[1])[:n_top]
    return TokenChance(token, chances[token], tuple(top))
