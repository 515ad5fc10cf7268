"""Any engine behind the server, one answer after the other: llama.cpp, whose control vector is one for a whole context."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.protocol import Step
from persona_interp.models.engines.registry import check
from persona_interp.models.steerable import SteerableModel
from persona_interp.serving.job import Job, Piece, TokenChance
from persona_interp.serving.worker import Worker, gone


class _NobodyWaitsError(Exception):
    """Ends a generation that nobody waits for."""


class OneAtATime(Worker):
    """Answers one job after the other; a `Backend`.

    Args:
        model: on any engine that tells its tokens as they are drawn.
        most_waiting: see `Worker`.
    """

    top_chances = False

    def __init__(self, model: SteerableModel, *, most_waiting: int = 512) -> None:
        check(InterventionGraph(), model.capabilities, model.name, ("streams",))
        self._model = model
        self._job: Job | None = None
        self.about = f"{model.capabilities.engine}, one answer after the other: it holds one persona at a time"
        super().__init__(1, most_waiting)

    def _turn(self) -> None:
        for job in self._arrivals(1, wait=True):
            if not job.cancelled:
                self._job, self._running = job, 1
                try:
                    self._answer(job)
                except _NobodyWaitsError:
                    pass
                except Exception as error:
                    job.fail(error)
                self._job, self._running = None, 0

    def _answer(self, job: Job) -> None:
        graph = InterventionGraph((*job.graph.nodes, *watching(job)))
        tokens: list[int] = []

        def on_step(step: Step) -> Sequence[bool]:
            if job.cancelled:
                raise _NobodyWaitsError
            if self._closed:
                raise gone()
            if job.answer.reason is None:
                tokens.append(int(step.tokens[0]))
                job.take(tokens[-1])
            return [job.answer.reason is not None]

        ends = job.answer.end_ids
        (found,) = self._model.engine.generate([job.prompt], graph, job.sampling, [job.seed], end_ids=ends, on_step=on_step)
        if job.n_top is not None:
            job.tell(Piece("", self._chances(job, tokens)))
        job.finish(projected(job, found.captured))

    def _chances(self, job: Job, tokens: Sequence[int]) -> tuple[TokenChance, ...]:
        row = TokenisedAnswer((*job.prompt, *tokens), len(job.prompt))
        ((found,),) = self._model.engine.log_probs([row], [job.graph])
        return tuple(TokenChance(token, log_prob) for token, log_prob in zip(tokens, found.tolist(), strict=True))

    def _abandon(self, error: Exception) -> None:
        if self._job is not None:
            self._job.fail(error)
        self._job, self._running = None, 0


def watching(job: Job) -> tuple[Capture, ...]:
    """The captures that read what a job's watches want."""
    layers = _layers(job)
    return (Capture("prompt_last", "none", layers), Capture("answer", "none", layers)) if layers else ()


def projected(job: Job, captured: Captured) -> list[list[float]]:
    """The projections of each watch at the last prompt token and at the answer's, out of what `watching` read."""
    layers = _layers(job)
    readings: list[list[float]] = []
    for watch in job.watches:
        row, values = layers.index(watch.layer), []
        for capture, resid in captured.items():
            own = resid[row].float() @ watch.direction  # of one position, or of several
            values = [float(own), *values] if capture.positions == "prompt_last" else values + own.tolist()
        readings.append(values)
    return readings


def _layers(job: Job) -> tuple[int, ...]:
    return tuple(sorted({watch.layer for watch in job.watches}))
