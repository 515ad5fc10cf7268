"""The page on a port of this machine: bound, guarded, served, and ended without leaving anything behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from persona_interp.errors import missing_extra
from persona_interp.listening import OWN_NAMES, address, bound, import_server_libraries, is_loopback, run_app

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
    """Load what serves the page.

    Raises:
        MissingExtraError: one is not installed.
    """
    import_server_libraries("the web demo", "demo")
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("the web demo", "demo") from error

    _ = gradio


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
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=OWN_NAMES)
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
                run_app(app, listener, lambda: ready(address(listener)), patience=2)
            finally:
                behind.close()
    finally:
        listener.close()
