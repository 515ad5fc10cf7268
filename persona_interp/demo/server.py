"""The page on a port of this machine: bound, guarded, served, and ended without leaving anything behind."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from persona_interp.errors import InvalidInputError, missing_extra

_OWN_NAMES = ["localhost", "127.0.0.1", "[::1]", "::1"]
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page has scripts within it
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser lets the page ask for: nothing that is not on this server."""


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


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def quiet_gradio() -> Iterator[None]:
    """Gradio without telemetry and look-ups, keeping its files in a folder that goes at the end; the environment is put back.

    Raises:
        MissingExtraError: it is not installed.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="persona-interp-demo-files-") as folder:
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, HF_HUB_DISABLE_TELEMETRY="1")
        try:
            _import_libraries()
            yield
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]
            os.environ.update(before)


def _import_libraries() -> None:
    """Load what serves the page, before nnsight gives every object an attribute `save`.

    Some classes of anyio refuse to be made with it, and these are only made when they are first asked for.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        import gradio
        from anyio.abc import SocketAttribute
        from anyio.streams.file import FileStreamAttribute
        from anyio.streams.tls import TLSAttribute
    except ImportError as error:
        raise missing_extra("the web demo", "demo") from error

    _ = gradio, SocketAttribute, FileStreamAttribute, TLSAttribute


def application(blocks: Any, *, own_names_only: bool) -> Any:
    """The page as an ASGI application that sends the browser nowhere else.

    Args:
        blocks: from `page`.
        own_names_only: answer only requests for this machine's own names, so that no web page elsewhere can reach a server on
            loopback by a name of its own.
    """
    import gradio as gr
    from fastapi import FastAPI, Request, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from persona_interp.demo.limits import MAX_UPLOAD
    from persona_interp.demo.page import css, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    if own_names_only:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_OWN_NAMES)
    # errors meant for a visitor are told on the page (`in_words`); others hold paths, and go to the terminal alone
    blocks.queue(default_concurrency_limit=None)
    return gr.mount_gradio_app(
        app, blocks, path="/", theme=theme(), css=css(), footer_links=[], run_history=False, max_file_size=MAX_UPLOAD,
        show_error=False, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False,
    )  # fmt: skip


def serve(
    names: Sequence[str],
    host: str,
    port: int,
    *,
    ready: Callable[[str], None],
    load: Callable[[str], Any] | None = None,
    engine: str | None = None,
) -> None:
    """Serve the page until Ctrl-C, or a signal to end.

    Args:
        names: of the models; those at hand if there is none.
        host: to bind.
        port: to bind; 0: a free one.
        ready: told the address once the page can be opened.
        load: how models are loaded; `load_model` if None.
        engine: what `load` has them run by, for the commands that the page shows; None: what opens them.

    Raises:
        InvalidInputError: host or port cannot be used.
        UnknownNameError: there is no such model.
        MissingExtraError: the extra ``demo`` is not installed.
    """
    listener = bound(host, port)
    try:
        with quiet_gradio():
            from persona_interp.demo.page import page
            from persona_interp.demo.shelf import Shelf
            from persona_interp.demo.site import Site

            shelf = Shelf(names) if load is None else Shelf(names, load)
            behind = Site(shelf, engine=engine, shows_paths=is_loopback(host))
            try:
                app = application(page(behind), own_names_only=is_loopback(host))
                _run(app, listener, lambda: ready(address(listener)))
            finally:
                behind.close()
    finally:
        listener.close()


def _run(app: Any, listener: socket.socket, started: Callable[[], None]) -> None:
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

    Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)).run(sockets=[listener])
