"""What a long job tells the person waiting: single lines and progress bars, on stderr, never in the way of results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_PATIENCE = 2.0
"""Seconds a job may run before its bar appears: short jobs stay silent."""

_DRAWN: list[Track] = []
"""The bar on screen, if any: an inner job does not draw a second one."""


def say(message: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


class Track:
    """How far a job is. Made by `track`."""

    def __init__(self, total: int, description: str) -> None:
        self.total = total
        self.done = 0
        self._description = description
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
        self._task = self._bar.add_task(self._description, total=self.total)
        _DRAWN.append(self)


@contextmanager
def track(total: int, description: str) -> Iterator[Track]:
    """Show how far a job of `total` units is; the value of the ``with`` statement is told by ``advance(n)``.

    Nothing is drawn unless stderr is a terminal and the job takes longer than two seconds. Inside another bar that is already
    drawn an inner one stays silent: the outer one says how far the whole job is.
    """
    bar = Track(total, description)
    try:
        yield bar
    finally:
        bar.close()
