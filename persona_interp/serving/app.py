"""The routes of the server, as an ASGI application over one served model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from persona_interp.errors import PersonaInterpError
from persona_interp.listening import OWN_NAMES
from persona_interp.serving.errors import ApiError, api_error
from persona_interp.serving.exchange import Exchange
from persona_interp.serving.gate import Gate, read_body, read_json_body
from persona_interp.serving.job import Done, Job
from persona_interp.serving.responses import END, ChatForm, Form, TextForm, event
from persona_interp.serving.schema import ChatRequest, CompletionRequest, read_request
from persona_interp.serving.served import Plan, Served
from persona_interp.serving.watching import projections

UPLOAD_BYTES = 64 * 2**20
REQUEST_BYTES = 4 * 2**20


class Routes:
    """What is done for each route.

    Args:
        served: the model.
        log: told a line for each request that was answered.
        log_prompts: whether the line holds what was asked.
    """

    def __init__(self, served: Served, log: Callable[[str], None], *, log_prompts: bool = False) -> None:
        self._served, self._log, self._log_prompts = served, log, log_prompts
        self._created = int(time.time())

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._answer(request, ChatRequest, ChatForm)

    async def complete(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        return await self._answer(request, CompletionRequest, TextForm)

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        return JSONResponse({"object": "list", "data": self._listed()})

    async def model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        name = request.path_params["name"]
        found = next((each for each in self._listed() if each["id"] == name), None)
        if found is None:
            raise ApiError(f"there is no model {name!r}: see /v1/models", 404, code="model_not_found", param="model")
        return JSONResponse(found)

    async def personas(self, request: Request) -> Response:
        """``GET /v1/personas``."""
        return JSONResponse({"object": "list", "data": [persona.to_json() for persona in self._served.personas]})

    async def persona(self, request: Request) -> Response:
        """``GET``, ``PUT`` and ``DELETE /v1/personas/NAME``."""
        name, personas = request.path_params["name"], self._served.personas
        if request.method == "PUT":
            content = await read_body(request, UPLOAD_BYTES)
            return JSONResponse((await run_in_threadpool(personas.put, name, content)).to_json(), 201)
        if request.method == "DELETE":
            await run_in_threadpool(personas.delete, name)
            return JSONResponse({"object": "persona", "name": name, "deleted": True})
        return JSONResponse(personas.find(name, "name").to_json())

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``."""
        gauges = {f"answers_{name}": float(value) for name, value in self._served.backend.load().items()}
        return PlainTextResponse(self._served.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def health(self, request: Request) -> Response:
        """``GET /health``: the process answers. ``GET /ready``: so does its engine."""
        alive = self._served.backend.alive
        about = {"model": self._served.name, "engine": self._served.backend.about, **self._served.backend.load()}
        status = 200 if alive or request.url.path == "/health" else 503
        return JSONResponse({"status": "ok" if alive else "the engine is not running", **about}, status)

    def _listed(self) -> list[dict[str, Any]]:
        base = {"id": self._served.name, "object": "model", "created": self._created, "owned_by": "persona-interp"}
        named = [
            {**base, "id": f"{self._served.name}@{persona.name}", "parent": self._served.name, "persona": persona.to_json()}
            for persona in self._served.personas
        ]
        return [base, *named]

    async def _answer(self, request: Request, kind: type[ChatRequest] | type[CompletionRequest], form_of: type[Form]) -> Response:
        asked = read_request(kind, await read_json_body(request, REQUEST_BYTES))
        plan = await run_in_threadpool(self._served.plan, asked)
        exchange = Exchange(self._served.backend)
        jobs = self._served.jobs(plan, asked, exchange, self._served.seed(asked, secrets.randbits(62)))
        exchange.submit(jobs)
        for name in plan.personas or ("none",):
            self._served.metrics.count("persona_requests_total", persona=name)
        form = form_of(asked.model, self._served.spell)
        if asked.stream:
            return StreamingResponse(self._stream(asked, plan, exchange, form), media_type="text/event-stream")
        try:
            choices = await exchange.whole(request.receive)
        finally:
            self._note(asked, plan, jobs)
        if choices is None:
            return Response(status_code=499)  # nobody reads it
        seen = [
            entry
            for index, choice in enumerate(choices)
            for entry in projections(index, plan.watches, choice.done, per_token=_per_token(asked))
        ]
        told = {**plan.told, **({"monitor": seen} if plan.watches else {})}
        return JSONResponse(form.whole(choices, _usage(plan, jobs), told, chances=asked.n_top is not None))

    async def _stream(
        self, asked: ChatRequest | CompletionRequest, plan: Plan, exchange: Exchange, form: Form
    ) -> AsyncIterator[str]:
        chances = asked.n_top is not None
        begun: set[int] = set()
        seen: list[dict[str, Any]] = []
        events = exchange.events()
        try:
            async for index, told in events:
                first = index not in begun
                begun.add(index)
                if isinstance(told, Done):
                    yield event(form.piece(index, "", None, told.reason, first=first))
                    seen += projections(index, plan.watches, told, per_token=_per_token(asked))
                else:
                    yield event(form.piece(index, told.text, told.chances if chances else None, None, first=first))
            if plan.told or plan.watches:
                yield event(form.trailing(**plan.told, **({"monitor": seen} if plan.watches else {})))
            if asked.stream_options.include_usage:
                yield event(form.trailing(usage=_usage(plan, exchange.jobs)))
            yield END
        except PersonaInterpError as error:  # the status has been sent: the error comes as an event, as OpenAI does it
            yield event(api_error(error).to_json())
        finally:
            await events.aclose()
            exchange.cancel()
            self._note(asked, plan, exchange.jobs)

    def _note(self, asked: ChatRequest | CompletionRequest, plan: Plan, jobs: Sequence[Job]) -> None:
        """Metrics, and a line in the log."""
        metrics, now = self._served.metrics, time.monotonic()
        written = sum(job.n_tokens for job in jobs)
        metrics.count("prompt_tokens_total", sum(map(len, plan.prompts)))
        metrics.count("completion_tokens_total", written)
        for job in jobs:
            metrics.count("answers_total", ended=job.answer.reason or "cut")
        firsts = [job.first_token - job.arrived for job in jobs if job.first_token is not None]
        if firsts:
            metrics.time("time_to_first_token_seconds", min(firsts))
        metrics.time("request_seconds", now - min(job.arrived for job in jobs))
        personas = "+".join(plan.personas) or "no persona"
        line = f"{len(jobs)} answers, {personas}: {sum(map(len, plan.prompts))} tokens in, {written} out"
        asked_for = f" {asked.messages if isinstance(asked, ChatRequest) else asked.prompt!r}" if self._log_prompts else ""
        self._log(f"{line}, {now - min(job.arrived for job in jobs):.2f} s{asked_for}")


def application(
    served: Served,
    log: Callable[[str], None],
    *,
    api_key: str | None = None,
    log_prompts: bool = False,
    own_names_only: bool = False,
) -> Starlette:
    """The ASGI application; it closes the backend at its end.

    Args:
        served: the model.
        log: told a line for each request that was answered.
        api_key: without it a request is refused, but those after health and readiness; None: everybody may ask.
        log_prompts: whether these lines hold what was asked.
        own_names_only: answer only requests for this machine's own names, so that no web page elsewhere can reach a server on
            loopback by a name of its own.
    """
    own = [Middleware(TrustedHostMiddleware, allowed_hosts=OWN_NAMES)] if own_names_only else []
    routes = Routes(served, log, log_prompts=log_prompts)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(served.backend.close)

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = ApiError(f"{request.method} {request.url.path}: {error.detail}", error.status_code)
        found = api_error(error)
        if found.status >= 500:
            log(f"error: {request.method} {request.url.path}: {type(error).__name__}: {error}")
        headers = {"Retry-After": "1"} if found.status in (429, 503) else {}
        return JSONResponse(found.to_json(), found.status, headers)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.complete, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/personas", routes.personas),
            Route("/v1/personas/{name}", routes.persona, methods=["GET", "PUT", "DELETE"]),
            Route("/metrics", routes.metrics),
            Route("/health", routes.health),
            Route("/ready", routes.health),
        ],
        middleware=[*own, Middleware(Gate, api_key=api_key, metrics=served.metrics)],
        exception_handlers={PersonaInterpError: failed, HTTPException: failed, Exception: failed},
        lifespan=lifespan,
    )


def _per_token(asked: ChatRequest | CompletionRequest) -> bool:
    return asked.monitor is not None and asked.monitor.per == "token"


def _usage(plan: Plan, jobs: Sequence[Job]) -> dict[str, int]:
    read, written = sum(map(len, plan.prompts)), sum(job.n_tokens for job in jobs)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
