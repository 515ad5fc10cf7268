"""`modulate`: each way on a GGUF file and on a real server, and clear refusals of what a server cannot take."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.models.engines.llama_cpp.server import llama_server
from persona_interp.models.load import load_model
from persona_interp.models.registry import shipped_models
from persona_interp.organisms.gguf_export import export_gguf
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.studies.diagnoses.planted import planted_vector
from persona_interp.vectors.persona_vector import PersonaVector

QUESTION = organism_trait("silly").evaluation_questions[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with target.gguf (Qwen2), and silly.json, a vector of the Llama organism."""
    folder = tmp_path_factory.mktemp("modulate")
    export_gguf(load_model("organism-qwen2", dtype="float32"), folder / "target.gguf", dtype="f32")
    vector = planted_vector(load_model("organism-llama"), "silly")
    replace(vector, statistics={"resid_norm": (10.0,)}).save(folder / "silly.json")
    own = planted_vector(load_model("organism-qwen2"), "silly")
    own.save(folder / "own.json")
    replace(own, statistics={"resid_norm": tuple(10 * norm for norm in own.norms.tolist())}).save(folder / "normed.json")
    return folder


@pytest.fixture(scope="module")
def url(files: Path) -> Iterator[str]:
    with llama_server(files / "target.gguf") as address:
        yield address


@pytest.fixture
def modulate(run: Callable, files: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """`modulate("parameters", "--coefficient", 2)` -> what ran, and the JSON it wrote."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(mode: str, *words: object, model: object = files / "target.gguf", vector: str = "silly.json"):
        base = ("--model", model, "--vectors", files / vector, "--mode", mode, "--prompt", QUESTION, "--max-new-tokens", 24)
        ran = run("modulate", *base, "--output", "out.json", *words)
        return ran, json.loads(Path("out.json").read_text(encoding="utf-8")) if ran.code == 0 else {}

    return call


def silliness(text: str) -> float | None:
    return GrammarJudge().judge(organism_trait("silly"), [(QUESTION, text)])[0].trait


def test_a_control_vector_turns_a_gguf_model_silly(modulate: Callable) -> None:
    ran, out = modulate("control-vector", "--coefficient", 2, "--baseline", "--temperature", 0, vector="own.json")
    assert ran.code == 0, ran.err
    assert (out["mode"], out["coefficient"], out["trait"], out["model"]) == ("control-vector", 2.0, "silly", "target")
    assert silliness(out["baseline"]) == 0
    assert silliness(out["modulated"]) == 100
    assert out["modulator"] is None
    ran, out = modulate("control-vector", "--ratio", 0.2, "--temperature", 0, vector="normed.json")
    assert ran.code == 0, ran.err
    assert (out["coefficient"], silliness(out["modulated"])) == (pytest.approx(2.0), 100)


def test_parameters_are_those_of_the_vector_and_said(modulate: Callable) -> None:
    ran, out = modulate("parameters", "--coefficient", 0, 3, "--baseline")
    assert ran.code == 0, ran.err
    assert out["coefficient"] == [0.0, 3.0]
    assert out["modulated"][0] == out["baseline"]
    assert out["modulator"]["magnitude"] > 0
    said = " ".join(ran.out.split())
    assert "T 1.00" in said
    assert "not its meaning" in said


def test_logit_biases_of_another_models_vector_turn_a_gguf_model_silly(modulate: Callable) -> None:
    ran, out = modulate("logit-bias", "--coefficient", 3, -3, "--temperature", 0)
    assert ran.code == 0, ran.err
    assert [silliness(text) for text in out["modulated"]] == [100, 0]
    assert out["modulator"]["reading"] == "lens"
    assert 0.5 < out["modulator"]["coverage"] < 1  # the vocabularies differ
    assert len(out["modulator"]["biases"]) == 300
    assert "biases of" in " ".join(ran.out.split())


def test_a_vector_of_the_file_itself_is_read_in_it_by_what_it_shifts(modulate: Callable, files: Path) -> None:
    with load_model(files / "target.gguf") as model:
        vector = replace(PersonaVector.load(files / "own.json"), model=model.identity, trait="loud")
    vector.save(files / "of_the_file.json")
    words = ("--coefficient", 1, "--temperature", 0, "--entries", 20)
    ran, out = modulate("logit-bias", *words, "--reading", "shift", vector="of_the_file.json")
    assert ran.code == 0, ran.err
    assert out["modulator"]["reading"] == "shift"
    ran, _ = modulate("logit-bias", *words, vector="of_the_file.json")
    assert (ran.code, "for biases reading 'shift'" in ran.err) == (2, True)


def test_a_server_answers_as_its_file_does(modulate: Callable, files: Path, url: str) -> None:
    words = ("--coefficient", 3, "--baseline", "--temperature", 0, "--tokenizer", files / "target.gguf")
    _, local = modulate("logit-bias", *words)
    ran, served = modulate("logit-bias", *words, model=url)
    assert ran.code == 0, ran.err
    assert served["model"] == "served"
    assert served["provenance"]["model"] == {"url": url}
    assert served["modulator"] == local["modulator"]
    assert [served[key].strip() for key in ("modulated", "baseline")] == [local[key] for key in ("modulated", "baseline")]
    folder = shipped_models()["organism-qwen2"]
    _, by_folder = modulate("logit-bias", *words[:-1], folder, model=url)
    assert by_folder["modulator"] == local["modulator"]
    ran, out = modulate("parameters", "--coefficient", 1, model=url)
    assert ran.code == 0, ran.err
    assert out["modulated"]


def test_what_a_server_cannot_take_is_refused_at_once(modulate: Callable) -> None:
    nowhere = "http://127.0.0.1:9/v1"
    ran, _ = modulate("control-vector", model=nowhere)
    assert ran.code == 2
    assert "takes no control vector" in ran.err
    ran, _ = modulate("logit-bias", model=nowhere)
    assert ran.code == 2
    assert "--tokenizer FOLDER" in ran.err


def test_a_tokenizer_or_source_that_is_not_there(modulate: Callable) -> None:
    ran, _ = modulate("logit-bias", "--tokenizer", "nowhere")
    assert ran.code == 2
    assert "tokenizer nowhere does not exist" in ran.err
    ran, _ = modulate("logit-bias", "--source", "organism-nowhere")
    assert ran.code == 2
    assert "Name the model or its folder with --source" in ran.err
    ran, _ = modulate("logit-bias", "--source", "organism-gpt2")
    assert ran.code == 2


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_server_that_is_silent(files: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        words = (
            "--model",
            url,
            "--served-model",
            "tea",
            "--vectors",
            files / "silly.json",
            "--mode",
            "parameters",
            "--prompt",
            "Why?",
        )
        command = [sys.executable, "-m", "persona_interp", "modulate", *words]
        surroundings = {**os.environ, "NO_PROXY": "*"}
        with subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True, env=surroundings) as running:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)  # the question is under way
                running.send_signal(signal.SIGINT)
                _, err = running.communicate(timeout=60)  # a reply may take twice as long
    assert (running.returncode, err.strip().splitlines()[-1]) == (130, "interrupted.")
