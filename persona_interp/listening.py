"""Serving on a port of this machine: bound before anything is loaded, and ended so that all is put away behind it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from persona_interp.errors import InvalidInputError, missing_extra

OWN_NAMES = ["localhost", "127.0.0.1", "[::1]", "::1"]
"""Names under which requests to a server on loopback come. Others are of web pages elsewhere that point at it."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises:
        InvalidInputError: the port is taken or no port, or the host is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise InvalidInputError(f"port {port} is no port: give one from 0 (any that is free) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInputError(f"host {host!r} is not known ({error.strerror or error}): give 127.0.0.1") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # until it does, another program may take the port too
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"cannot serve on {host}, port {port}: {error.strerror or error}. Give another --port (0 takes a free one), or end "
            "what is running there"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def import_server_libraries(feature: str, extra: str) -> None:
    """Load what serves, also where nnsight has given every object an attribute `save`.

    Some classes of anyio, made when they are first asked for, refuse to have an attribute of which no annotation is known.

    Args:
        feature: for the error.
        extra: that brings what is missing.

    Raises:
        MissingExtraError: something is not installed.
    """
    try:
        import uvicorn
        from anyio import TypedAttributeSet

        if hasattr(object, "save"):
            TypedAttributeSet.__annotations__ = {**TypedAttributeSet.__annotations__, "save": Any}
        from anyio._backends._asyncio import AsyncIOBackend
        from anyio.abc import SocketAttribute
        from anyio.streams.file import FileStreamAttribute
        from anyio.streams.tls import TLSAttribute
    except ImportError as error:
        raise missing_extra(feature, extra) from error

    _ = uvicorn, AsyncIOBackend, SocketAttribute, FileStreamAttribute, TLSAttribute


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_app(app: Any, listener: socket.socket, started: Callable[[], None], *, patience: int) -> None:
    """Run an ASGI application on a socket until Ctrl-C or another signal to end; a second Ctrl-C waits for nothing.

    Args:
        app: what answers.
        listener: from `bound`.
        started: called once it answers.
        patience: seconds that what is under way has at the end.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            super().handle_exit(sig, frame)
            self._captured_signals.clear()  # else it raises the signal again, before models are closed and files removed
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # open pages break off, which is no fault

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=patience)
    Server(config).run(sockets=[listener])
