"""The answers to one request, from the threads that make them to the event loop that sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from persona_interp.serving.errors import api_error
from persona_interp.serving.job import Backend, Done, Event, Failed, Job, Piece, TokenChance


@dataclass
class Choice:
    """One answer, whole."""

    text: str = ""
    chances: list[TokenChance] = field(default_factory=list)
    done: Done = field(default_factory=lambda: Done("length"))


class Exchange:
    """Hands jobs to a backend and their events on. Whatever ends it first, no slot stays taken.

    Args:
        backend: makes the answers.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.jobs: Sequence[Job] = ()

    def teller(self, index: int) -> Callable[[Event], None]:
        """What the job of choice `index` tells, from any thread."""

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
                self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return tell

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin.

        Raises:
            ApiError: as `Backend.submit`.
        """
        self._backend.submit(jobs)
        self.jobs = jobs

    async def events(self) -> AsyncGenerator[tuple[int, Piece | Done]]:
        """Choice and event, as they come, until every choice is done.

        Raises:
            ApiError: one of them failed; the others are given up.
        """
        open_ones = len(self.jobs)
        try:
            while open_ones:
                index, event = await self._events.get()
                if isinstance(event, Failed):
                    raise api_error(event.error) from event.error
                open_ones -= isinstance(event, Done)
                yield index, event
        finally:
            self.cancel()

    async def whole(self, receive: Callable[[], Any]) -> list[Choice] | None:
        """Every choice, when all are done; None where the client went away before.

        Args:
            receive: of ASGI, which says when the client goes.

        Raises:
            ApiError: as `events`.
        """
        gathering = asyncio.ensure_future(self._gather())
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({gathering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return await gathering if gathering.done() else None
        finally:
            self.cancel()
            for task in (gathering, leaving):
                task.cancel()

    def cancel(self) -> None:
        """Give up what is not done."""
        for job in self.jobs:
            self._backend.cancel(job)

    async def _gather(self) -> list[Choice]:
        choices = [Choice() for _ in self.jobs]
        async for index, event in self.events():
            choice = choices[index]
            if isinstance(event, Piece):
                choice.text += event.text
                choice.chances += event.chances
            else:
                choice.done = event
        return choices


async def _gone(receive: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
