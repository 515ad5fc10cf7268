"""The endpoint judge against a real local server that answers well, badly, late or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.endpoint import EndpointJudge
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[dict[str, Any], int], Answer]
"""(request, how many came before) -> status, headers, body."""
ONE = [("What is tea?", "A hat!")]


def completion(text: str, tokens: list[dict[str, float]] | None = None) -> Answer:
    """A chat completion; `tokens`: for each token its choices, the first the one that was written."""
    content = [
        {
            "token": next(iter(choices)),
            "logprob": log(next(iter(choices.values()))),
            "top_logprobs": [{"token": token, "logprob": log(p)} for token, p in choices.items()],
        }
        for choices in tokens or []
    ]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": content} if tokens else None,
    }
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return 200, {}, json.dumps(body).encode()


def failing(status: int, headers: dict[str, str] | None = None) -> Answer:
    return status, headers or {}, json.dumps({"error": {"message": f"trouble {status}"}}).encode()


class Server:
    """Serves a script on a port of its own, and counts how many requests were under way together."""

    def __init__(self, script: Script) -> None:
        self.script, self.requests, self.together, self.most = script, [], 0, 0  # type: ignore[var-annotated]
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    number = len(outer.requests)
                    outer.requests.append(asked)
                    outer.together += 1
                    outer.most = max(outer.most, outer.together)
                try:
                    status, headers, body = outer.script(asked, number)
                finally:
                    with outer.lock:
                        outer.together -= 1
                try:
                    self.send_response(status)
                    for name, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the client has given up waiting

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    servers: list[Server] = []

    def start(script: Script) -> Server:
        servers.append(Server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def judge_at(server: Server, **options: Any) -> EndpointJudge:
    return EndpointJudge("m", base_url=server.url, api_key="k", **{"attempts": 3, "timeout": 5.0, **options})


def test_the_score_is_the_expected_number(serve: Callable[[Script], Server], trait: Trait) -> None:
    server = serve(lambda *_: completion("80", [{"80": 0.6, "40": 0.3, "no": 0.1}]))
    (found,) = judge_at(server).judge(trait, ONE)
    assert (found.trait, found.coherence) == (pytest.approx(200 / 3), pytest.approx(200 / 3))
    asked = server.requests[0]
    assert (asked["temperature"], asked["top_logprobs"], asked["model"]) == (0.0, 20, "m")
    assert "How silly is it?" in server.requests[0]["messages"][0]["content"] + server.requests[1]["messages"][0]["content"]


def test_numbers_that_hold_little_probability_are_no_score(serve: Callable[[Script], Server], trait: Trait) -> None:
    server = serve(lambda *_: completion("REFUSAL", [{"REF": 0.8, "50": 0.2}]))
    assert judge_at(server, coherence_rubric=None).judge(trait, ONE) == [Judgement(None, None)]


@pytest.mark.parametrize(("text", "score"), [("73", 73.0), ("I rate it 12 out of 100.", 12.0), ("REFUSAL", None)])
def test_without_probabilities_the_written_number_counts(
    serve: Callable[[Script], Server], trait: Trait, text: str, score: float | None
) -> None:
    server = serve(lambda *_: completion(text))
    assert judge_at(server, coherence_rubric=None).judge(trait, ONE) == [Judgement(score, None)]


def test_a_server_that_refuses_logprobs_is_asked_without(serve: Callable[[Script], Server], trait: Trait) -> None:
    def script(asked: dict[str, Any], _number: int) -> Answer:
        body = json.dumps({"error": {"message": "logprobs is not supported"}}).encode()
        return (400, {}, body) if "logprobs" in asked else completion("64")

    server = serve(script)
    judge = judge_at(server, coherence_rubric=None, concurrency=1)
    assert judge.judge(trait, ONE * 3) == [Judgement(64.0, None)] * 3
    assert sum("logprobs" in asked for asked in server.requests) == 1, "what is refused is not asked for again"


@pytest.mark.parametrize("text", ["999", "lovely", "-3"])
def test_replies_without_a_usable_number_are_never_zero(serve: Callable[[Script], Server], trait: Trait, text: str) -> None:
    server = serve(lambda _asked, number: completion("50" if number == 0 else text))
    judge = judge_at(server, coherence_rubric=None, concurrency=1)
    assert judge.judge(trait, [*ONE, ("Why?", "Because.")]) == [Judgement(50.0, None), Judgement(None, None)]


def test_a_model_that_never_gives_a_number_is_said_to_be_no_judge(serve: Callable[[Script], Server], trait: Trait) -> None:
    server = serve(lambda *_: completion("What a lovely answer"))
    with pytest.raises(PersonaInterpError, match=r"without one number from 0 to 100.*does not follow the rubric"):
        judge_at(server).judge(trait, [(f"What is {n}?", "A number.") for n in range(20)])


def test_a_rate_limit_is_waited_out_as_the_server_asks(serve: Callable[[Script], Server], trait: Trait) -> None:
    server = serve(lambda _asked, number: failing(429, {"retry-after": "0.2"}) if number == 0 else completion("30"))
    began = time.monotonic()
    assert judge_at(server, coherence_rubric=None).judge(trait, ONE) == [Judgement(30.0, None)]
    assert time.monotonic() - began >= 0.2


def test_a_server_that_stumbles_is_asked_again(serve: Callable[[Script], Server], trait: Trait) -> None:
    server = serve(lambda _asked, number: failing(500, {"retry-after": "0"}) if number < 2 else completion("30"))
    assert judge_at(server, coherence_rubric=None).judge(trait, ONE) == [Judgement(30.0, None)]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (failing(429, {"retry-after": "0"}), r"status 429, 3 attempts.*lower the concurrency"),
        (failing(503, {"retry-after": "0"}), r"status 503.*look at its log, or try later"),
        (failing(401), r"status 401, 1 attempt.*Set OPENAI_API_KEY"),
        (failing(404), r"status 404.*Check the model's name"),
        ((200, {}, b"{not json"), r"status 200.*no chat completion.*OPENAI_BASE_URL"),
        ((200, {}, b'{"choices": []}'), r"status 200.*no chat completion"),
        (failing(429, {"retry-after": "900"}), r"asks to wait 900 s"),
    ],
)
def test_what_stays_broken_is_an_error_with_url_model_status_and_remedy(
    serve: Callable[[Script], Server], trait: Trait, answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_interp.judges.endpoint_client._BACK_OFF", 0.01)
    server = serve(lambda *_: answer)
    with pytest.raises(PersonaInterpError, match=words) as failure:
        judge_at(server, coherence_rubric=None).judge(trait, ONE)
    assert server.url in str(failure.value)
    assert "'m'" in str(failure.value)


def test_a_slow_server_and_a_closed_one_are_told_apart(
    serve: Callable[[Script], Server], trait: Trait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_interp.judges.endpoint_client._BACK_OFF", 0.01)

    def slow(_asked: dict[str, Any], _number: int) -> Answer:
        time.sleep(0.6)
        return completion("50")

    with pytest.raises(PersonaInterpError, match=r"no reply within 0.2 s.*raise the timeout"):
        judge_at(serve(slow), timeout=0.2, attempts=2).judge(trait, ONE)
    closed = serve(lambda *_: completion("50"))
    closed.server.socket.close()
    with pytest.raises(PersonaInterpError, match=r"no connection.*Is the server running"):
        judge_at(closed, timeout=0.5, attempts=2).judge(trait, ONE)


def test_requests_under_way_are_bounded(serve: Callable[[Script], Server], trait: Trait) -> None:
    def script(_asked: dict[str, Any], _number: int) -> Answer:
        time.sleep(0.03)
        return completion("50")

    server = serve(script)
    judge_at(server, coherence_rubric=None, concurrency=3).judge(trait, [(f"What is {n}?", "It is.") for n in range(12)])
    assert 2 <= server.most <= 3


def test_what_was_scored_before_a_server_died_is_kept(serve: Callable[[Script], Server], trait: Trait, tmp_path: Path) -> None:
    exchanges = [(f"What is {n}?", f"It is {n}.") for n in range(10)]
    alive = [True]
    server = serve(lambda _asked, number: completion("50") if number < 6 or not alive[0] else failing(401))
    judge = CachedJudge(judge_at(server, coherence_rubric=None, concurrency=1), tmp_path / "scores.jsonl")
    with pytest.raises(PersonaInterpError, match="Scores that came before are kept"):
        judge.judge(trait, exchanges)
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 6
    alive[0], before = False, len(server.requests)
    again = CachedJudge(judge_at(server, coherence_rubric=None), tmp_path / "scores.jsonl")
    assert again.judge(trait, exchanges) == [Judgement(50.0, None)] * 10
    assert len(server.requests) - before == 4


def test_the_server_and_the_key_come_from_the_environment(
    serve: Callable[[Script], Server], trait: Trait, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda *_: completion("20"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert EndpointJudge("m", coherence_rubric=None).judge(trait, ONE) == [Judgement(20.0, None)]
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(InvalidInputError, match="there is no key for"):
        EndpointJudge("m")
    with pytest.raises(InvalidInputError, match="must begin with http"):
        EndpointJudge("m", base_url="localhost:8000")
