"""What a long job tells the person waiting: single lines and progress bars, on stderr, never in the way of results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from persona_interp.profiling import step

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG = logging.getLogger("persona_interp")
"""Where all lines go that are said while something runs. With a handler of its own it is the only place they go to; without one
they are printed on stderr as well, unless its level is above theirs."""
LOG.addHandler(logging.NullHandler())

_PATIENCE = 2.0
"""Seconds a job may run before its bar appears: short jobs stay silent."""

_FIRST_LINE, _LINES_APART = 10.0, 60.0
"""Where stderr is no terminal (a log): seconds before a job's first line, and between two of them at least."""

_SMALL = 0.05
"""Share of a job that tells nothing of its pace when it is done first."""

_DRAWN: list[Terminal] = []
"""Who draws on the screen, if anybody: a second thread does not draw a second bar."""


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


@dataclass(frozen=True)
class Progress:
    """How far the outermost job under way is.

    Attributes:
        description: what is being done.
        done: units done.
        total: units of the whole job.
        share: how much of it is done, 0 to 1, jobs within it counted.
    """

    description: str
    done: int
    total: int
    share: float


_TOLD: ContextVar[tuple[Callable[[Progress], None], ...]] = ContextVar("told", default=())


@contextmanager
def on_progress(callback: Callable[[Progress], None]) -> Iterator[None]:
    """Have `callback` told how far the work within the block is, in this thread, beside the bars; what it raises ends the work.

    Example:
        >>> with on_progress(lambda now: print(f"{now.description}: {100 * now.share:.0f} %")):
        ...     model.generate(questions)
    """
    token = _TOLD.set((*_TOLD.get(), callback))
    try:
        yield
    finally:
        _TOLD.reset(token)


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
    """One line for the person waiting: to the logger ``persona_interp``, and on stderr unless that logger is set up (`LOG`)."""
    level = logging.WARNING if message.startswith("warning:") else logging.INFO
    LOG.log(level, "%s", message)
    watch = _WATCH.get()
    if watch is not None and not isinstance(watch.watcher, Terminal):
        watch.watcher.said(message)
    elif level >= LOG.level and all(isinstance(handler, logging.NullHandler) for handler in LOG.handlers):
        if watch is None:
            _print(message)
        else:
            watch.watcher.said(message)


def _print(message: str) -> None:
    stream = sys.stdout if "ipykernel" in sys.modules else sys.stderr  # a notebook shows stderr as if something had gone wrong
    stream.write(f"{message}\n")
    stream.flush()


def _on_terminal() -> bool:
    return sys.stderr.isatty()


class Track:
    """How far a job is. Made by `track`.

    Attributes:
        total: units of the whole job.
        done: units done.
        part: units that a job within this one counts for, while it is under way.
        description: what is being done.
    """

    def __init__(self, total: int, description: str, watch: _Watch) -> None:
        self.total = total
        self.done = 0
        self.part = 1
        self.description = description
        self._watch = watch

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.to(self.done + n)

    def to(self, done: int) -> None:
        """Set how many units are done; more than `total` counts as `total`."""
        self.done = min(done, self.total)
        _tell(self._watch)


def _tell(watch: _Watch) -> None:
    watch.watcher.moved(watch.jobs)
    outer = watch.jobs[0]
    for callback in _TOLD.get():
        callback(Progress(outer.description, outer.done, outer.total, share_done(watch.jobs)))


def share_done(jobs: Sequence[Track]) -> float:
    """How much of the outermost job is done, 0 to 1; a job within another counts as the part it is of that."""
    share, width = 0.0, 1.0
    for job in jobs:
        if job.total:
            share += width * job.done / job.total
            width *= job.part / job.total
    return min(1.0, share)


class Terminal:
    """A job's bar where stderr is a terminal, and a line now and then where it is not; both say how many minutes are left."""

    def __init__(self) -> None:
        self._is_terminal = _on_terminal()
        self._console: Any = None
        self._started = time.monotonic()
        self._next_line = _FIRST_LINE
        self._furthest = 0.0
        self._first: tuple[float, float] | None = None
        self._bar: Bar | None = None

    def moved(self, jobs: Sequence[Track]) -> None:
        """See `Watcher`."""
        job, spent = jobs[0], time.monotonic() - self._started
        # a second job within the same part begins anew
        self._furthest = share = max(self._furthest, share_done(jobs))
        left = self._seconds_left(spent, share)
        if self._is_terminal:
            if self._bar is None and not _DRAWN and spent > _PATIENCE:
                self._draw(job)
            if self._bar is not None:
                task = self._bar.task_ids[0]
                self._bar.update(task, completed=share, count=f"{job.done}/{job.total}", left=minutes_left(left))
        elif left is not None and share < 1 and spent > self._next_line:
            self._next_line = spent + max(_LINES_APART, left / 10)
            self.said(f"{job.description}: {100 * share:.0f} % done, {minutes_left(left)}")

    def _seconds_left(self, spent: float, share: float) -> float | None:
        """At the pace so far; what came before a first small step, as prompts are read before the first token, is no pace."""
        if not share:
            return None
        if self._first is None:
            self._first = (spent, share) if share < _SMALL else (0.0, 0.0)
        began, done = self._first
        return (spent - began) * (1 - share) / (share - done) if share > done else None

    def said(self, message: str) -> None:
        """See `Watcher`."""
        if self._console is None:
            _print(message)
        else:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            _DRAWN.remove(self)

    def _draw(self, job: Track) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
        self._bar = Bar(*columns, TextColumn("{task.fields[left]}"), console=self._console, transient=True)
        self._bar.add_task(job.description, total=1.0, count="", left="")
        self._bar.start()
        _DRAWN.append(self)


def minutes_left(seconds: float | None) -> str:
    """In words; nothing where it is not known."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    if minutes < 120:
        return f"about {minutes} minute{'s' if minutes > 1 else ''} left"
    return f"about {minutes // 60} h {minutes % 60} min left"


@contextmanager
def track(total: int, description: str) -> Iterator[Track]:
    """Show how far a job of `total` units is, and record it as a step of the profile if one is being made.

    The value of the ``with`` statement is told by ``advance(n)``.

    Nothing is shown of jobs that take less than two seconds (ten where stderr is no terminal). A job within another is shown as
    the part it is of that: the outer one says how far the whole is.
    """
    watch, terminal, token = _WATCH.get(), None, None
    if watch is None:
        terminal = Terminal()
        watch = _Watch(terminal)
        token = _WATCH.set(watch)
    job = Track(total, description, watch)
    try:
        with step(description):
            watch.jobs.append(job)
            _tell(watch)
            yield job
    finally:
        watch.jobs.remove(job)
        if terminal is not None and token is not None:
            terminal.close()
            _WATCH.reset(token)
