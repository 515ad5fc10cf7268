"""Personas come and go over the API, are checked against the model, and survive the server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from serving_side import Running, made_vector, running

from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import write_json
from persona_interp.vectors.persona_vector import PersonaVector

ASK = [{"role": "user", "content": "What is the river?"}]


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    with server.http() as found:
        yield found


def content_of(vector: PersonaVector, folder: Path, suffix: str) -> bytes:
    return vector.save(folder / f"vector{suffix}").read_bytes()


def answer(http: httpx.Client, model: str, **more: object) -> httpx.Response:
    body = {"model": model, "messages": ASK, "temperature": 0, "max_tokens": 12, **more}
    return http.post("/v1/chat/completions", json=body)


def error_of(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return f"{response.status_code} {error['message']}"


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".gguf"])
def test_an_uploaded_persona_answers_until_it_is_deleted(http, server: Running, organism, tmp_path: Path, suffix: str) -> None:
    vector, name = made_vector(organism, 7), f"new{suffix[1:]}"
    put = http.put(f"/v1/personas/{name}", content=content_of(vector, tmp_path, suffix))
    assert put.status_code == 201
    assert put.json()["uploaded"]
    assert http.get(f"/v1/personas/{name}").json() == put.json()
    field = {"name": name, "coefficient": 1.5, "layers": [3]}
    said = answer(http, "organism-qwen2", persona=field).json()["choices"][0]["message"]["content"]
    assert (
        said == organism.generate(ASK[0]["content"], graph=vector.graph(1.5, layers=[3]), sampling=sampling(12), seed=[0])[0].text
    )
    assert f"organism-qwen2@{name}" in [each["id"] for each in http.get("/v1/models").json()["data"]]
    assert http.delete(f"/v1/personas/{name}").json()["deleted"]
    assert error_of(answer(http, "organism-qwen2", persona=field)).startswith(f"400 there is no persona '{name}'")
    assert error_of(http.delete(f"/v1/personas/{name}")).startswith("400")


def sampling(n: int):
    from persona_interp.models.sampling import Sampling

    return Sampling(n, 0.0)


def test_a_control_vector_of_another_program_fits_by_shape(http, organism, tmp_path: Path) -> None:
    import gguf

    file = tmp_path / "foreign.gguf"
    writer = gguf.GGUFWriter(str(file), "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_uint32("controlvector.layer_count", organism.n_layers)
    for layer in range(1, organism.n_layers):
        writer.add_tensor(f"direction.{layer}", made_vector(organism, 8).at(layer).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    put = http.put("/v1/personas/foreign", content=file.read_bytes())
    assert "by shape only" in put.json()["lineage"], put.text
    (dose,) = answer(http, "organism-qwen2@foreign:0.5").json()["persona"]["doses"]
    assert dose["ratio"] == pytest.approx(0.25, rel=0.2), "norms were measured, as the file says none"
    http.delete("/v1/personas/foreign")


def test_an_upload_replaces_one_before_it_and_no_file_of_the_folder(http, server: Running, organism, tmp_path: Path) -> None:
    first, second = (content_of(made_vector(organism, seed), tmp_path, ".json") for seed in (11, 12))
    one = http.put("/v1/personas/mine", content=first).json()["sha256"]
    two = http.put("/v1/personas/mine", content=second).json()["sha256"]
    kept = sorted(path.name for path in (server.served.personas._uploads).iterdir())
    assert one != two
    assert kept == sorted([f"{two}.json", "index.json"])
    assert error_of(http.put("/v1/personas/silly", content=first)).startswith("409 'silly' is a file")
    assert error_of(http.delete("/v1/personas/silly")).startswith("409")
    http.delete("/v1/personas/mine")
    assert [path.name for path in server.served.personas._uploads.iterdir()] == ["index.json"]


def test_what_is_no_vector_of_this_model_is_refused(http, server: Running, tiny_model, organism, tmp_path: Path) -> None:
    other = content_of(made_vector(tiny_model("qwen2"), 0), tmp_path, ".json")
    assert "width" in error_of(http.put("/v1/personas/other", content=other))
    torch.save({"a": torch.zeros(2)}, tmp_path / "v.pt")
    assert ".pt file, which is never taken" in error_of(http.put("/v1/personas/other", content=(tmp_path / "v.pt").read_bytes()))
    good = content_of(made_vector(organism, 1), tmp_path, ".json")
    for content in (b"", b"{", b"GGUF", good[:500], b'\x08\0\0\0\0\0\0\0{"a":1}   ', good.replace(b'"layers"', b'"lay"')):
        found = error_of(http.put("/v1/personas/other", content=content))
        assert found.startswith("400"), found
        assert "/tmp" not in found
    assert "other" not in [each["name"] for each in http.get("/v1/personas").json()["data"]]
    assert not list(tmp_path.parent.rglob("*.part"))


@pytest.mark.parametrize(
    "name", ["../x", "..%2Fx", "%2e%2e", "a/b", "a%00b", ".hidden", "a+b", "a:b", "a@b", "x" * 101, "%F0%9F%98%80"]
)
def test_names_that_are_paths_or_worse_are_refused(http, server: Running, organism, tmp_path: Path, name: str) -> None:
    good = content_of(made_vector(organism, 1), tmp_path, ".json")
    folder = server.served.personas._folder
    before = sorted(folder.parent.rglob("*"))
    response = http.put(f"/v1/personas/{name}", content=good)
    assert response.status_code in (400, 404, 405)
    assert response.json()["error"]["message"]
    assert sorted(folder.parent.rglob("*")) == before


def test_measured_cliffs_are_the_limit_of_doses(organism: SteerableModel, vectors, tmp_path: Path) -> None:
    for name in ("silly", "calm"):
        vectors[name].save(tmp_path / f"organism-qwen2_{name}.json")
    cliffs = [
        {"layer": 3, "direction": 1, "safe": 0.3, "broken": 0.4},
        {"layer": 3, "direction": -1, "safe": 1.2, "broken": None},
    ]
    write_json(tmp_path / "organism-qwen2_silly.cliffs.json", {"cliffs": cliffs})
    silly, calm = ({"name": name, "layers": [3]} for name in ("silly", "calm"))
    with running(organism, tmp_path) as server, server.http() as http:
        found = error_of(answer(http, "organism-qwen2", persona={**silly, "ratio": 0.4}))
        assert (
            "400 the persona pushes layer 3 by 0.40 of its residual norm, and coherence was measured to hold up to 0.30" in found
        )
        assert answer(http, "organism-qwen2", persona={**silly, "ratio": -1.0}).status_code == 200
        assert "the limit is 0.90" in error_of(answer(http, "organism-qwen2", persona={**calm, "ratio": 1.0}))
        assert answer(http, "organism-qwen2", persona=[{**calm, "ratio": 0.8}]).status_code == 200
        both = [{**calm, "ratio": 0.8}, {**silly, "ratio": 0.2}]
        assert "pushes layer 3 by 0.8" in error_of(answer(http, "organism-qwen2", persona=both))
    with running(organism, tmp_path, dose_guard="clamp") as server, server.http() as http:
        clamped = answer(http, "organism-qwen2", persona={**silly, "ratio": 0.6}).json()
        plain = answer(http, "organism-qwen2", persona={**silly, "ratio": 0.3}).json()
        assert clamped["choices"][0]["message"] == plain["choices"][0]["message"]
        assert "lowered to 0.50 of it" in clamped["persona"]["note"]
        assert clamped["persona"]["doses"][0]["ratio"] == pytest.approx(0.3)
    with running(organism, tmp_path, dose_guard="warn") as server, server.http() as http:
        assert "may fall apart" in answer(http, "organism-qwen2", persona={**silly, "ratio": 0.6}).json()["persona"]["note"]


def test_vectors_of_other_models_in_the_folder_are_passed_over(organism, tiny_model, vectors, tmp_path: Path, capsys) -> None:
    vectors["silly"].save(tmp_path / "silly.json")
    made_vector(tiny_model("llama"), 0).save(tmp_path / "tiny-llama_silly.json")
    (tmp_path / "notes.json").write_text("[]")
    with running(organism, tmp_path) as server:
        assert [persona.name for persona in server.served.personas] == ["silly"]
    assert "tiny-llama_silly.json is not served" in capsys.readouterr().err


@contextmanager
def process(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-m", "persona_interp", "serve", "--model", "organism-qwen2", "--personas", str(folder)]
    surroundings = {**os.environ, "THE_KEY": "sesame"}
    found = subprocess.Popen([*command, "--port", "0", *words], stdout=subprocess.PIPE, text=True, env=surroundings)
    try:
        assert found.stdout is not None
        said = re.search(r"http://\S+/v1", found.stdout.readline())
        assert said is not None
        with httpx.Client(base_url=said.group().removesuffix("/v1"), timeout=60, trust_env=False) as http:
            yield found, http
    finally:
        found.kill()
        found.communicate()


@pytest.mark.slow
def test_a_killed_server_finds_its_personas_again_and_ends_in_good_order(organism, tmp_path: Path) -> None:
    content = content_of(made_vector(organism, 21), tmp_path, ".safetensors")
    folder = tmp_path / "personas"
    with process(folder, "--api-key-env", "THE_KEY") as (server, http):
        assert error_of(http.get("/v1/models")).startswith("401")
        http.headers["Authorization"] = "Bearer sesame"
        kept = http.put("/v1/personas/kept", content=content).json()
        before = answer(http, "organism-qwen2@kept:1.2").json()["choices"]
        server.send_signal(signal.SIGKILL)
        server.wait()
    with process(folder) as (server, http):
        assert http.get("/v1/personas").json()["data"] == [kept]
        assert answer(http, "organism-qwen2@kept:1.2").json()["choices"] == before
        body = {"model": "organism-qwen2@kept:1.2", "messages": ASK, "temperature": 0, "max_tokens": 60, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json={**body, "logit_bias": no_end(organism)}) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""], "streams are finished first"
        assert server.wait(30) == 0


def no_end(model: SteerableModel) -> dict[str, int]:
    return {str(token): -100 for token in model.chat.end_ids}
