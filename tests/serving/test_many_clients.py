"""Many clients at once, personas that come and go meanwhile, and streams that are left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from serving_crowd import Question, crowd, questions, run_crowd
from serving_side import Running, made_vector, running

from persona_interp.models.steerable import SteerableModel

TEXTS = ("What is the bicycle?", "Tell me about bees.", "How are you?", "Why does the river flow to the sea, do you think?")


@pytest.fixture(scope="module")
def asked(organism: SteerableModel, vectors) -> list[Question]:
    return questions(organism, vectors, TEXTS, n=16, layer=3, tokens=16)


def settled(server: Running, patience: float = 20) -> dict[str, int]:
    """The load once nothing is under way any more."""
    end = time.monotonic() + patience
    while any(server.served.backend.load().values()) and time.monotonic() < end:
        time.sleep(0.02)
    return dict(server.served.backend.load())


def test_no_client_hears_what_another_is_told(organism, folder_of, asked, tmp_path: Path) -> None:
    content = made_vector(organism, 31).save(tmp_path / "v.safetensors").read_bytes()
    with running(organism, folder_of(), concurrent=8, most_waiting=64) as server, server.http() as http:
        over = threading.Event()
        turns: list[int] = []

        def others() -> None:
            """Personas come, answer and go while the crowd asks."""
            with server.http() as own:
                while not over.is_set():
                    assert own.put("/v1/personas/passing", content=content).status_code == 201
                    body = {"model": "organism-qwen2@passing:1", "messages": asked[0].body["messages"], "max_tokens": 3}
                    turns.append(own.post("/v1/chat/completions", json=body).status_code)
                    assert own.delete("/v1/personas/passing").status_code == 200

        thread = threading.Thread(target=others)
        thread.start()
        try:
            found = run_crowd(crowd(server.url, asked, clients=24, seconds=60, rounds=4))
        finally:
            over.set()
            thread.join()
        assert (found.errors, found.wrong) == ([], [])
        assert found.right + found.cut == 24 * 4
        assert found.cut > 2
        assert set(turns) == {200}
        assert settled(server) == {"running": 0, "waiting": 0}
        metrics = http.get("/metrics").text
        assert f'route="/v1/chat/completions",status="200"}} {24 * 4 + len(turns)}' in metrics
        assert 'persona_interp_answers_total{ended="cut"}' in metrics
        assert "persona_interp_answers_running 0" in metrics
        assert f"persona_interp_time_to_first_token_seconds_count {24 * 4 + len(turns)}" in metrics.replace(".0", "")


def endless(model: SteerableModel, **more: Any) -> dict[str, Any]:
    """A request whose answer does not end by itself."""
    bans = {str(token): -100 for token in model.chat.end_ids}
    ask = [{"role": "user", "content": TEXTS[0]}]
    return {"model": "organism-qwen2", "messages": ask, "max_tokens": 200, "logit_bias": bans, "stream": True, **more}


@pytest.mark.parametrize("engine", ["torch", "llama.cpp"])
def test_streams_that_are_left_free_their_slots(engine: str, organism, gguf_model, folder_of) -> None:
    model = organism if engine == "torch" else gguf_model("organism-qwen2")
    with running(model, folder_of(), name="organism-qwen2", concurrent=2, max_tokens=200) as server, server.http() as http:
        for whole in (False, True):
            body = endless(model, stream=not whole)
            if whole:
                with pytest.raises(Exception, match="timed out"):
                    http.post("/v1/chat/completions", json=body, timeout=0.05)
            else:
                with http.stream("POST", "/v1/chat/completions", json=body) as stream:
                    next(stream.iter_lines())
                    assert server.served.backend.load()["running"] == 1
            assert settled(server) == {"running": 0, "waiting": 0}
        assert server.served.metrics.text({}).count('ended="cut"') == 1
        written = server.served.metrics._counts["completion_tokens_total"][()]
        assert written < 2 * 200, "it stopped before the answers were done"


def test_a_full_queue_is_said_to_be_and_takes_all_or_nothing(organism, folder_of) -> None:
    with running(organism, folder_of(), concurrent=1, most_waiting=2, max_tokens=200) as server, server.http() as http:
        with http.stream("POST", "/v1/chat/completions", json=endless(organism)) as stream:
            next(stream.iter_lines())
            three = http.post("/v1/chat/completions", json=endless(organism, n=3, stream=False))
            assert three.status_code == 429
            assert three.headers["Retry-After"] == "1"
            assert "2 may" in three.json()["error"]["message"]
            assert server.served.backend.load()["waiting"] == 0
        assert settled(server) == {"running": 0, "waiting": 0}


def test_what_waits_when_the_server_ends_is_told_so(organism, folder_of) -> None:
    with running(organism, folder_of(), concurrent=1, max_tokens=200) as server, server.http() as http:
        with http.stream("POST", "/v1/chat/completions", json=endless(organism)) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.served.backend.close()
            assert "went down" in "".join(lines)
        assert http.get("/health").status_code == 200
        assert http.get("/ready").status_code == 503
        refused = http.post("/v1/chat/completions", json={**endless(organism), "stream": False})
        assert refused.json()["error"]["code"] == "shutting_down"
