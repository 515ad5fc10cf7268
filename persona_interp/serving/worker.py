"""A queue of jobs and the thread that works on them: what every engine in this process shares."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from persona_interp.progress import say
from persona_interp.serving.errors import ApiError
from persona_interp.serving.job import Job


class Worker(ABC):
    """The common part of a `Backend` that runs in a thread of its own.

    Args:
        concurrent: answers made at the same time.
        most_waiting: jobs that may wait; more are refused.
    """

    about: str
    top_chances: bool

    def __init__(self, concurrent: int, most_waiting: int) -> None:
        self.concurrent, self._most = concurrent, most_waiting
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="persona-interp-serving", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """See `Backend.alive`."""
        return self._thread.is_alive() and not self._closed

    def load(self) -> dict[str, int]:
        """See `Backend.load`."""
        return {"running": self._running, "waiting": len(self._waiting)}

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Backend.submit`."""
        with self._changed:
            if self._closed:
                raise ApiError("the server is going down: ask again when it is back", 503, code="shutting_down")
            if len(self._waiting) + len(jobs) > self._most:
                raise ApiError(
                    f"{len(self._waiting)} answers are waiting already and {self._most} may: ask again later",
                    429,
                    code="queue_full",
                )
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """See `Backend.cancel`."""
        with self._changed:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._changed.notify_all()

    def close(self) -> None:
        """See `Backend.close`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=60)

    def _arrivals(self, room: int, *, tokens: int | None = None, wait: bool = False) -> list[Job]:
        """Jobs that wait, oldest first, at most `room`, and about so many prompt tokens; with `wait` until there is one."""
        with self._changed:
            while wait and not self._waiting and not self._closed:
                self._changed.wait()
            found: list[Job] = []
            while self._waiting and len(found) < room and not self._closed:
                size = sum(len(job.prompt) for job in found) + len(self._waiting[0].prompt)
                if found and tokens is not None and size > tokens:
                    break
                found.append(self._waiting.popleft())
            return found

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception as error:  # whatever it was, the next request finds a server that answers
                say(f"error while answering: {type(error).__name__}: {error}")
                self._abandon(error)
        self._abandon(gone())
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        for job in left:
            job.fail(gone())

    @abstractmethod
    def _turn(self) -> None:
        """Do the next bit of work, or wait for some."""

    @abstractmethod
    def _abandon(self, error: Exception) -> None:
        """Fail everything under way."""


def gone() -> ApiError:
    """What those are told whose answer is not ready when the server ends."""
    return ApiError("the server went down before this was answered", 503, code="shutting_down")
