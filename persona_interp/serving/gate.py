"""What stands before every route: the key, sizes of bodies, and the count of requests."""

from __future__ import annotations

import hmac
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persona_interp.serving.errors import ApiError
from persona_interp.serving.metrics import Metrics

_OPEN = ("/health", "/ready")
_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/personas", "/metrics")


class Gate:
    """Middleware.

    Args:
        app: behind it.
        api_key: every request but those after health and readiness must name it; None: nobody need.
        metrics: told of every answer's status.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._expected = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and path not in _OPEN:
                route = next((route for route in _ROUTES if path == route or path.startswith(route + "/")), "other")
                self._metrics.count("requests_total", route=route, status=str(message["status"]))
            await send(message)

        given = (Headers(scope=scope).get("authorization") or "").encode("latin-1", "replace")
        if self._expected is not None and path not in _OPEN and not hmac.compare_digest(given, self._expected):
            error = ApiError(
                "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'", 401, code="invalid_api_key"
            )
            await JSONResponse(error.to_json(), 401, {"WWW-Authenticate": "Bearer"})(scope, receive, counted)
            return
        await self._app(scope, receive, counted)


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        ApiError: it has more than `most` bytes; no more than that is read.
    """
    too_large = ApiError(f"the body is larger than the {most} bytes that are taken here", 413, code="body_too_large")
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or int(said) > most:
        raise too_large
    found = bytearray()
    try:
        async for chunk in request.stream():
            found += chunk
            if len(found) > most:
                raise too_large
    except ClientDisconnect:
        raise ApiError("the client went away before it had said all") from None
    return bytes(found)


async def read_json_body(request: Request, most: int) -> Any:
    """The body of a request as JSON.

    Raises:
        ApiError: it is none, or too large.
    """
    body = await read_body(request, most)
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is not valid JSON: {error}", code="invalid_json") from None


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
