"""One answer to be made, and what makes answers: the small protocol between the server and an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.serving.answer_text import AnswerText


@dataclass(frozen=True, eq=False)
class Watch:
    """A direction whose projection is read while a job is answered.

    Attributes:
        name: of the persona.
        layer: 0-based block.
        direction: of length 1.
    """

    name: str
    layer: int
    direction: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class TokenChance:
    """How likely a token was, natural logarithms, before biases, temperature and cuts.

    Attributes:
        token: the one drawn.
        log_prob: its own.
        top: the likeliest tokens and theirs, likeliest first.
    """

    token: int
    log_prob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Something new of an answer; either may be empty."""

    text: str
    chances: tuple[TokenChance, ...] = ()


@dataclass(frozen=True)
class Done:
    """The end of an answer.

    Attributes:
        reason: ``stop`` or ``length``.
        readings: for each watch the projections at the last prompt token and at each answer token but the last.
    """

    reason: str
    readings: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Failed:
    """There is no more to come."""

    error: Exception


Event: TypeAlias = Piece | Done | Failed


@dataclass(eq=False)
class Job:
    """One answer to one prompt.

    Attributes:
        prompt: its ids.
        graph: writes, for this answer alone.
        sampling: how it is drawn.
        seed: of its draws.
        answer: follows what it says.
        tell: told everything, from a thread of the engine.
        n_top: likeliest tokens to be told of each; None: nothing of chances.
        watches: what is read.
        cancelled: nobody waits for it any more.
        arrived: when, by the monotonic clock.
        first_token: when its first token was drawn, likewise.
        n_tokens: drawn so far.
    """

    prompt: tuple[int, ...]
    graph: InterventionGraph
    sampling: Sampling
    seed: int
    answer: AnswerText
    tell: Callable[[Event], None]
    n_top: int | None = None
    watches: tuple[Watch, ...] = ()
    cancelled: bool = False
    arrived: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    n_tokens: int = 0

    def take(self, token: int, chance: TokenChance | None = None) -> bool:
        """Its next token. Whether the answer is over with it."""
        self.first_token = self.first_token or time.monotonic()
        self.n_tokens += 1
        text = self.answer.take(token)
        if text or chance is not None:
            self.tell(Piece(text, () if chance is None else (chance,)))
        return self.answer.reason is not None

    def finish(self, readings: Sequence[Sequence[float]] = ()) -> None:
        """It is over: what is told last."""
        self.tell(Done(self.answer.reason or "length", tuple(tuple(values[: self.n_tokens]) for values in readings)))

    def fail(self, error: Exception) -> None:
        """It cannot be gone on with."""
        self.tell(Failed(error))


@runtime_checkable
class Backend(Protocol):
    """What answers jobs, by itself and in its own threads or processes; `torch`, llama.cpp and vLLM each bring one.

    Attributes:
        concurrent: answers made at the same time.
        about: how it does that, in words for people who ask the server.
        top_chances: whether it knows the likeliest tokens, and not the drawn one's chance alone.
    """

    concurrent: int
    about: str
    top_chances: bool

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        ...

    def load(self) -> Mapping[str, int]:
        """How many jobs are ``running`` and ``waiting``."""
        ...

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take all of them, or none.

        Raises:
            ApiError: too many are waiting, or it has been closed.
        """
        ...

    def cancel(self, job: Job) -> None:
        """Stop as soon as the step under way is over; no harm where it is over already."""
        ...

    def close(self) -> None:
        """Stop; what is not done fails."""
        ...
