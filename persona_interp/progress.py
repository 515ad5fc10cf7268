"""What a long job tells the person waiting: single lines and progress bars, on stderr, never in the way of results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_PATIENCE = 2.0
"""Seconds a job may run before its bar appears: short jobs stay silent."""

_DRAWN: list[Track] = []
"""The bar on screen, if any: an inner job does not draw a second one."""


@runtime_checkable
class Watcher(Protocol):
    """Is told how far the jobs are that run inside `watched`; what it raises ends them."""

    def moved(self, jobs: Sequence[Track]) -> None:
        """A job began or advanced. `jobs` are those under way, the outermost first."""
        ...

    def said(self, message: str) -> None:
        """A line meant for the person waiting."""
        ...


class _Watch:
    """A watcher and the jobs under way before its eyes."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.jobs: list[Track] = []


_WATCH: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher`, instead of the terminal, of all that `track` and `say` report within the block, in this thread."""
    token = _WATCH.set(_Watch(watcher))
    try:
        yield
    finally:
        _WATCH.reset(token)


def say(message: str) -> None:
    """Print one line on stderr."""
    watch = _WATCH.get()
    if watch is not None:
        watch.watcher.said(message)
        return
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


class Track:
    """How far a job is. Made by `track`.

    Attributes:
        total: units of the whole job.
        done: units done.
        part: units that a job within this one counts for, while it is under way.
        description: what is being done.
    """

    def __init__(self, total: int, description: str, watch: _Watch | None = None) -> None:
        self.total = total
        self.done = 0
        self.part = 1
        self.description = description
        self._watch = watch
        self._started = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.to(self.done + n)

    def to(self, done: int) -> None:
        """Set how many units are done; more than `total` counts as `total`."""
        self.done = min(done, self.total)
        if self._watch is not None:
            self._watch.watcher.moved(self._watch.jobs)
            return
        if self._bar is None and self._is_due():
            self._draw()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            _DRAWN.remove(self)

    def _is_due(self) -> bool:
        return self._console.is_terminal and not _DRAWN and time.monotonic() - self._started > _PATIENCE

    def _draw(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self.description, total=self.total)
        _DRAWN.append(self)


@contextmanager
def track(total: int, description: str) -> Iterator[Track]:
    """Show how far a job of `total` units is; the value of the ``with`` statement is told by ``advance(n)``.

    Nothing is drawn unless stderr is a terminal and the job takes longer than two seconds. Inside another bar that is already
    drawn an inner one stays silent: the outer one says how far the whole job is.
    """
    watch = _WATCH.get()
    bar = Track(total, description, watch)
    try:
        if watch is not None:
            watch.jobs.append(bar)
            watch.watcher.moved(watch.jobs)
        yield bar
    finally:
        bar.close()
        if watch is not None:
            watch.jobs.remove(bar)
