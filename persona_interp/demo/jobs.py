"""A piece of work in a thread of its own, which shows how far it is and can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from persona_interp.errors import PersonaInterpError
from persona_interp.progress import Track, minutes_left, share_done, watched

Shown = TypeVar("Shown")
_PACE = 5.0
"""Seconds after which a pace is believed."""
_THREAD = "persona-interp-demo-job"


class Stopped(PersonaInterpError):  # noqa: N818  (no fault, but what was asked for)
    """The person waiting asked for an end."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        doing: what it is at, in words.
        share: of it that is done, 0 to 1; None where that is not known.
        notes: lines for the person waiting, in the order they came.
        left: how long it will still take at the pace so far, in words; empty where that is not known.
    """

    doing: str = ""
    share: float | None = None
    notes: tuple[str, ...] = ()
    left: str = ""


class Job(Generic[Shown]):
    """Work that runs beside whoever waits for it.

    What the work reports with `track` and `say` becomes `progress`; `stop` ends it at its next step, a generated token for
    example. Whatever it wrote to disk until then stays.

    Example:
        >>> job = Job(lambda job: job.show(slow_thing()))
        >>> for shown in job.updates():
        ...     print(job.progress.doing, shown)

    Args:
        work: is given the job, calls `show` with what it has so far, and returns.
    """

    def __init__(self, work: Callable[[Job[Shown]], None]) -> None:
        self.progress = Progress()
        self._work = work
        self._news = threading.Condition()
        self._fresh = False
        self._shown: Shown | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._stop = threading.Event()
        self._outermost: Track | None = None
        self._furthest = 0.0
        self._began: tuple[float, float] | None = None
        self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)

    def start(self) -> Job[Shown]:
        """Begin, without waiting."""
        self._thread.start()
        return self

    # -- for the work ----------------------------------------------------------------------------------------------

    def show(self, shown: Shown) -> None:
        """Hand over what there is to see; what nobody has looked at yet is replaced."""
        self.check()
        with self._news:
            self._shown, self._fresh = shown, True
            self._news.notify_all()

    def doing(self, words: str, share: float | None = None, left: str = "") -> None:
        """Say what is done now."""
        self.check()
        with self._news:
            self.progress = replace(self.progress, doing=words, share=share, left=left)
            self._fresh = True
            self._news.notify_all()

    def check(self) -> None:
        """Raise `Stopped` once an end was asked for."""
        if self._stop.is_set():
            raise Stopped("stopped")

    def moved(self, jobs: Sequence[Track]) -> None:
        """See `progress.Watcher`: the outermost job counts, what is within it only as the part it is of that."""
        self.check()
        if not jobs:
            return
        share = share_done(jobs)
        if jobs[0] is not self._outermost:
            self._outermost, self._furthest, self._began = jobs[0], 0.0, None
        self._furthest = max(self._furthest, share)  # a second job within the same part begins anew
        self.doing(jobs[0].description, self._furthest, minutes_left(self._seconds_left()))

    def _seconds_left(self) -> float | None:
        """At the pace since the first step, which what was found on disk or read before the first token does not count in."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, self._furthest)
        began, first = self._began
        if now - began < _PACE or self._furthest <= first:
            return None
        return (now - began) * (1 - self._furthest) / (self._furthest - first)

    def said(self, message: str) -> None:
        """See `progress.Watcher`."""
        with self._news:
            self.progress = replace(self.progress, notes=(*self.progress.notes, message))
            self._fresh = True
            self._news.notify_all()

    # -- for who waits ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for an end."""
        self._stop.set()
        with self._news:
            self._fresh = True
            self._news.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether an end was asked for."""
        return self._stop.is_set()

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return self._thread.is_alive()

    @property
    def failure(self) -> BaseException | None:
        """What the work raised, once it has ended."""
        return self._error

    @property
    def shown(self) -> Shown | None:
        """What was shown last."""
        return self._shown

    def updates(self, patience: float = 0.5, pause: float = 0.0) -> Iterator[Shown | None]:
        """What the work has shown last, each time there is news, until it ends.

        Leaving the loop early stops the work. An end that was asked for is told at once, though the step
        under way may take its time.

        Args:
            patience: seconds after which the same is given again, so that who waits can look for other news.
            pause: seconds between two looks; what is shown in between is skipped, but for the last.

        Raises:
            Stopped: an end was asked for.
            BaseException: as the work raised it.
        """
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._fresh or self._ended, timeout=patience)
                    self._fresh = False
                    shown, ended, error = self._shown, self._ended, self._error
                if self._stop.is_set():
                    raise Stopped("stopped")
                if error is not None:
                    raise error
                yield shown
                if ended:
                    return
                if pause:
                    self._stop.wait(pause)
        finally:
            self.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread."""
        self._thread.join(timeout)

    def result(self) -> Shown | None:
        """Wait for the end; what was shown last. Raises as `updates`."""
        return list(self.updates())[-1]

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with watched(self):
                self._work(self)
        except BaseException as raised:  # whoever waits raises it again
            error = raised
        with self._news:
            self._error, self._ended, self._fresh = error, True, True
            self._news.notify_all()


def wait_for_steps(seconds: float) -> None:
    """Wait until what was stopped has ended: a thread that is inside PyTorch when the interpreter ends takes the process down.

    Args:
        seconds: for all of them together, at most.
    """
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join(max(0.0, until - time.monotonic()))
