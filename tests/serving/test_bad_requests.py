"""Whatever comes in, the answer is an error in OpenAI's form and the server goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from serving_side import Running, running

GOOD: dict[str, Any] = {
    "model": "organism-qwen2",
    "messages": [{"role": "user", "content": "What is the river?"}],
    "max_tokens": 4,
}


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    with server.http() as found:
        yield found
        assert found.post("/v1/chat/completions", json=GOOD).status_code == 200, "the server is unharmed"


def refused(response: httpx.Response, status: int, words: str) -> None:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (response.status_code, words in error["message"]) == (status, True), error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user"}]}, "message 0"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "message 0"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "system"),
        ({"messages": [{"role": "user", "content": "bee " * 5000}]}, "context"),
        ({"max_tokens": 10**12}, "context"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n:"),
        ({"n": 10**9}, "n:"),
        ({"stop": [""]}, "empty"),
        ({"stop": ["x"] * 100}, "stop"),
        ({"logit_bias": {"99999999": 1}}, "99999999"),
        ({"logit_bias": {"-1": 1}}, "-1"),
        ({"logit_bias": {"1": 1e9}}, "bias"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"top_logprobs": 500, "logprobs": True}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "text only"),
        ({"persona": {"name": "nobody"}}, "Known: calm, formal, silly"),
        ({"persona": {"name": "../silly"}}, "there is no persona"),
        ({"persona": {"name": "silly", "coefficient": 1e300}}, "coefficient"),
        ({"persona": {"name": "silly", "coefficient": 50}}, "pushes layer"),
        ({"persona": {"name": "silly", "coefficient": 1, "ratio": 1}}, "give one of them"),
        ({"persona": {"name": "silly", "layers": [99]}}, "99"),
        ({"persona": {"name": "silly", "layers": []}}, "no layer"),
        ({"persona": {"name": "silly", "operation": "explode"}}, "use one of add"),
        ({"persona": {"name": "silly", "operation": "cap"}}, "range"),
        ({"persona": {"name": "silly", "operation": "cap", "range": [2, 1]}}, "range"),
        ({"persona": {"name": "silly", "operation": "clamp"}}, "projection"),
        ({"persona": {"name": "silly", "operation": "ablate", "coefficient": 7}}, "7"),
        ({"persona": {"name": "silly", "positions": "nowhere"}}, "positions"),
        ({"persona": {"name": "silly", "strength": 1}}, "strength"),
        ({"persona": [{"name": "silly"}] * 9}, "persona"),
        ({"monitor": ["nobody"]}, "there is no persona 'nobody'"),
        ({"monitor": {"personas": ["silly"], "layer": 99}}, "99"),
        ({"model": "organism-qwen2@nobody:1"}, "there is no persona 'nobody'"),
        ({"model": "organism-qwen2@silly:much"}, "is no persona"),
        ({"model": "organism-qwen2@silly:1e9"}, "is no persona"),
        ({"model": "organism-qwen2@"}, "is no persona"),
    ],
)
def test_absurd_parameters_are_named(http: httpx.Client, change: dict[str, Any], words: str) -> None:
    refused(http.post("/v1/chat/completions", json={**GOOD, **change}), 400, words)


def test_other_models_routes_and_methods_are_not_found(http: httpx.Client) -> None:
    refused(http.post("/v1/chat/completions", json={**GOOD, "model": "gpt-9"}), 404, "gpt-9")
    refused(http.get("/v1/models/gpt-9"), 404, "gpt-9")
    refused(http.get("/v1/nothing"), 404, "/v1/nothing")
    refused(http.get("/v1/chat/completions"), 405, "Method Not Allowed")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000, b'{"n": ' + b"9" * 9000 + b"}"]
)
def test_malformed_json_is_said_to_be(http: httpx.Client, body: bytes) -> None:
    refused(http.post("/v1/chat/completions", content=body), 400, "")


def test_huge_bodies_are_not_read(server: Running, http: httpx.Client) -> None:
    refused(http.post("/v1/chat/completions", content=b" " * (5 * 2**20)), 413, "larger than")
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as line:
        line.sendall(b"PUT /v1/personas/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 413"

    def endless() -> Iterator[bytes]:
        for _ in range(70):
            yield b"{" * 2**20

    refused(http.put("/v1/personas/x", content=endless()), 413, "larger than")


def test_completions_need_a_prompt(http: httpx.Client) -> None:
    for prompt in ("", [], [[]], ["x"] * 200, [10**9], [-1], None, {"a": 1}, [""]):
        response = http.post("/v1/completions", json={"model": "organism-qwen2", "prompt": prompt})
        refused(response, 400, "prompt")


def test_a_wrong_key_is_refused_and_health_needs_none(organism, folder_of) -> None:
    with running(organism, folder_of(), api_key="sesame") as server, server.http() as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "sesame"}, {"Authorization": "Bearer \xff"}):
            response = http.post("/v1/chat/completions", json=GOOD, headers={k: v.encode("latin-1") for k, v in headers.items()})
            refused(response, 401, "API key")
        refused(http.get("/metrics"), 401, "API key")
        assert [http.get(path).status_code for path in ("/health", "/ready")] == [200, 200]
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sesame", http_client=http, max_retries=0)
        assert client.chat.completions.create(**GOOD).choices
        with pytest.raises(openai.AuthenticationError, match="API key"):
            client.with_options(api_key="wrong").models.list()


def test_pages_elsewhere_cannot_reach_a_server_on_loopback_by_a_name_of_their_own(http: httpx.Client) -> None:
    assert http.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400


def test_the_log_holds_no_prompts_unless_asked(organism, folder_of) -> None:
    secret = {**GOOD, "messages": [{"role": "user", "content": "the word is xyzzy"}]}
    for asked in (False, True):
        with running(organism, folder_of(), log_prompts=asked) as server, server.http() as http:
            http.post("/v1/chat/completions", json=secret)
            assert [("xyzzy" in line) for line in server.log] == [asked]
            assert "no persona" in server.log[0]


def test_what_fails_in_the_engine_is_an_error_and_no_other_request_notices(organism, folder_of, monkeypatch) -> None:
    with running(organism, folder_of()) as server, server.http() as http:
        good = http.post("/v1/chat/completions", json={**GOOD, "temperature": 0}).json()["choices"]

        def broken(*_: Any) -> Any:
            raise RuntimeError("out of something")

        with monkeypatch.context() as patch:
            patch.setattr(server.served.backend._batch, "step", broken)
            refused(http.post("/v1/chat/completions", json=GOOD), 500, "RuntimeError")
            lines = http.post("/v1/chat/completions", json={**GOOD, "stream": True}).text.splitlines()
            assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "internal_error"
        assert http.post("/v1/chat/completions", json={**GOOD, "temperature": 0}).json()["choices"] == good
        assert http.get("/ready").status_code == 200
