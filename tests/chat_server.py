"""A real HTTP server that speaks the chat completions protocol as a test tells it to, well or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answer:
    """What the server sends: a status, a body (an object becomes JSON), headers, after a while."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    hang_up: bool = False


def completion(text: str | None, steps: Sequence[Mapping[str, float]] | None = None, *, finish: str = "stop") -> dict[str, Any]:
    """The body of a completion; `steps`: token -> probability at each place, the first of them the one written."""
    logprobs = None
    if steps is not None:
        content = []
        for choices in steps:
            top = [{"token": token, "logprob": float(np.log(p)), "bytes": None} for token, p in choices.items()]
            content.append({**top[0], "top_logprobs": top})
        logprobs = {"content": content}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


Script = Callable[[dict[str, Any], int], Answer]
"""(the request, how many came before it) -> what to send."""


class ChatServer(ThreadingHTTPServer):
    """Remembers requests, and how many were under way together."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.requests)
            server.requests.append(request)
            server.keys.append(self.headers.get("Authorization"))
            server.times.append(time.monotonic())
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            self._send(server.script(request, number) if self.path == "/v1/chat/completions" else Answer("no such path", 404))
        finally:
            with server.lock:
                server.under_way -= 1

    def _send(self, answer: Answer) -> None:
        time.sleep(answer.after)
        body = answer.body if isinstance(answer.body, bytes) else self._encoded(answer.body)
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + (100 if answer.hang_up else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = answer.hang_up

    @staticmethod
    def _encoded(body: Any) -> bytes:
        return (body if isinstance(body, str) else json.dumps(body)).encode()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(script: Script) -> Iterator[ChatServer]:
    """A server on a free port of this machine, gone at the end."""
    server = ChatServer(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(request: Mapping[str, Any]) -> str:
    """The rubric in a request."""
    return request["messages"][-1]["content"]
