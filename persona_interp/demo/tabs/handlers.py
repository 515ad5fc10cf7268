"""What stands between a control and the work it sets going: errors in words, progress, and whose session it is."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar, cast

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.sessions import Session
from persona_interp.demo.site import Site
from persona_interp.errors import PersonaInterpError

Shown = TypeVar("Shown")
Updates = dict[Any, Any]
"""Component -> what it is to show now; the others stay."""

OPTIONS: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""Of every event: the page shows progress itself, and a model's own queue sets the order."""
_PAUSE = 0.25
"""Seconds between two pictures of a stream: given more of them, a browser on a busy machine falls behind, its buttons too."""


def in_words(status: gr.HTML) -> Callable[[Callable[..., Any]], Callable[..., Iterator[Updates]]]:
    """Let a handler's errors be told in `status`. The handler returns or yields `Updates`."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Iterator[Updates]]:
        @functools.wraps(handler)
        def told(*args: Any, **kwargs: Any) -> Iterator[Updates]:
            try:
                found = handler(*args, **kwargs)
                yield from cast("Iterator[Updates]", found) if inspect.isgenerator(found) else (found,)
            except Stopped:
                yield {status: notices.told("Stopped.")}
            except PersonaInterpError as error:
                yield {status: notices.failed(str(error))}
            except Exception as error:  # a fault of the program: the details are for whoever runs it
                traceback.print_exc(file=sys.stderr)
                yield {status: notices.failed(f"The program has a fault here ({type(error).__name__}). The terminal says more.")}

        return told

    return decorate


def towards(status: str) -> str:
    """JavaScript for an event that brings the element with that id into sight where the screen is too narrow to show it."""
    return f"""(...values) => {{
        const place = document.getElementById("{status}");
        if (place && window.innerWidth < 800) place.scrollIntoView({{behavior: "smooth", block: "start"}});
        return values;
    }}"""


def session_of(site: Site, request: gr.Request) -> Session:
    """The visitor's own."""
    return site.sessions.of(request.session_hash)


def followed(
    job: Job[Shown],
    status: gr.HTML,
    draw: Callable[[Shown], Updates] = lambda _shown: {},
    *,
    once: Callable[[Shown], Updates] = lambda _shown: {},
    cut_short: Callable[[Shown], Updates] | None = None,
) -> Generator[Updates, None, Shown | None]:
    """A job as it goes on; what it showed last is the value of ``yield from``.

    Args:
        job: running.
        status: gets its progress.
        draw: what is to be seen of what it shows.
        once: more of that, for the first time only.
        cut_short: what is to be seen of what it showed last, where it is stopped or fails.
    """
    last: Shown | None = None
    try:
        for shown in job.updates(pause=_PAUSE):
            updates: Updates = {}
            if shown is not None:
                updates = {**draw(shown), **(once(shown) if last is None else {})}
                last = shown
            yield {status: notices.working(job.progress), **updates}
    except Exception:
        if last is not None and cut_short is not None:
            yield cut_short(last)
        raise
    return last


def stop_button(site: Site, places: Sequence[str], button: gr.Button, status: gr.HTML) -> None:
    """Let a button stop the session's job in the first of `places` where one runs, past every queue."""

    def stop(request: gr.Request) -> Updates:
        session = session_of(site, request)
        if any(session.stop(place) for place in places):
            return {status: gr.skip()}  # who follows the job says so at once, and this answer might come after that
        return {status: notices.told("There is nothing to stop.")}

    button.click(stop, None, [status], queue=False, show_progress="hidden", api_visibility="private")
