"""From a loaded model to a server that listens: backend, personas, application, and an end in good order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.errors import InvalidInputError, UnsupportedError, missing_extra
from persona_interp.listening import address, bound, import_server_libraries, is_loopback, run_app
from persona_interp.progress import say

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel

PORT = 8100


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    Attributes:
        personas: folder of vector files; uploads go into it.
        host: to bind.
        port: 0 takes a free one.
        api_key: that requests must name; None: nobody need.
        name: what clients call the model; None: its own.
        concurrent: answers made side by side, where the engine can.
        most_waiting: answers that may wait; more are refused.
        max_tokens: an answer may have.
        dose_guard: see `DoseGuard`.
        largest_ratio: likewise.
        log_prompts: whether the log holds what was asked.
        patience: seconds that answers under way have at the end.
    """

    personas: Path
    host: str = "127.0.0.1"
    port: int = PORT
    api_key: str | None = None
    name: str | None = None
    concurrent: int = 32
    most_waiting: int = 512
    max_tokens: int = 1024
    dose_guard: Any = "refuse"
    largest_ratio: float = 0.9
    log_prompts: bool = False
    patience: int = 120


def served_model(model: SteerableModel, settings: Settings) -> Any:
    """A `Served` with the backend that fits the model's engine.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        InvalidInputError: the model's name would be taken for one with a persona.
    """
    prepare()
    from persona_interp.serving.dose_guard import DoseGuard
    from persona_interp.serving.personas import Personas
    from persona_interp.serving.served import Served

    name = settings.name or model.name
    if "@" in name:
        raise InvalidInputError(
            f"the model is called {name!r}, and '@' stands before a persona: give another name to serve it by"
        )
    personas = Personas(settings.personas, model)
    guard = DoseGuard(settings.dose_guard, settings.largest_ratio)
    return Served(model, name, backend_of(model, settings), personas, guard, settings.max_tokens)


def backend_of(model: SteerableModel, settings: Settings) -> Any:
    """Answers side by side where the engine can, else one after the other, which is said."""
    from persona_interp.serving.continuous import Continuous
    from persona_interp.serving.one_at_a_time import OneAtATime
    from persona_interp.serving.requests import Requests

    if hasattr(model.engine, "running_requests"):
        return Requests(model, concurrent=settings.concurrent, most_waiting=settings.most_waiting)
    if hasattr(model.engine, "running_batch"):
        try:
            return Continuous(model, concurrent=settings.concurrent, most_waiting=settings.most_waiting)
        except UnsupportedError as error:
            say(f"note: {error}")
    return OneAtATime(model, most_waiting=settings.most_waiting)


def serve(model: SteerableModel, settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; answers under way are finished first, a second Ctrl-C cuts them.

    Args:
        model: closed by the caller.
        settings: how.
        ready: told the address once the server listens.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        InvalidInputError: the address cannot be bound.
    """
    prepare()
    from persona_interp.serving.app import application

    if settings.api_key is None and not is_loopback(settings.host):
        say(f"note: {settings.host} can be reached from other machines, and nobody is asked for a key: see --api-key-env")
    listener = bound(settings.host, settings.port)
    try:
        served = served_model(model, settings)
        say(f"{served.name} is answered by {served.backend.about}")
        app = application(
            served, say, api_key=settings.api_key, log_prompts=settings.log_prompts, own_names_only=is_loopback(settings.host)
        )

        run_app(app, listener, lambda: ready(f"{address(listener)}/v1"), patience=settings.patience)
    finally:
        listener.close()


def prepare() -> None:
    """Load what serves, so that what is missing is said before a model is loaded.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
    """
    import_server_libraries("serving a model", "serve")
    if any(find_spec(part) is None for part in ("starlette", "pydantic")):
        raise missing_extra("serving a model", "serve")
