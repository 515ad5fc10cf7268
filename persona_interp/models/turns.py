"""A lock whose holders come in the order they asked: one queue a model."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """Used as ``with turns:``. Like `threading.RLock`, but first come, first served.

    A thread that gives an ordinary lock back and asks for it again at once mostly gets it before those who wait: a long job of
    many batches would keep a short one out until its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._holder: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._lock:
            if self._holder in (None, me):
                self._holder, self._depth = me, self._depth + 1
                return
            called = threading.Event()
            self._waiting.append(called)
        try:
            called.wait()
        except BaseException:  # Ctrl-C while waiting: the turn goes on to the next
            with self._lock:
                if called in self._waiting:
                    self._waiting.remove(called)
                else:
                    self._pass_on()
            raise
        with self._lock:
            self._holder, self._depth = me, 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._pass_on()

    def _pass_on(self) -> None:
        """Call the next one; until it comes, nobody else gets in."""
        if self._waiting:
            self._holder = _CALLED
            self._waiting.popleft().set()
        else:
            self._holder = None


_CALLED = -1
"""Stands for the thread that was called and has not come yet; no thread has this number."""
