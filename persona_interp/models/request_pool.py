"""Threads for requests to a server, which the end of the program does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class RequestPool:
    """Runs functions on a few threads of its own.

    What `concurrent.futures` has waits for its threads when the interpreter ends: after Ctrl-C a server that says nothing would
    hold the program for as long as a reply may take.

    Args:
        size: how many run together at most.
        name: of the threads.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> Future[_T]:
        """Run `work` as soon as a thread is free."""
        future: Future[_T] = Future()
        self._queue.put((future, lambda: work(*args, **options)))
        if len(self._threads) < self._size:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Begin nothing more: what waits is cancelled, what runs is left to itself."""
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is not None:
                item[0].cancel()
        for _ in self._threads:
            self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
