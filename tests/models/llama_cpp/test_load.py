"""One `load_model` for all kinds of models: GGUF files too, by their ending or their first bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import persona_interp
from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.load import load_model
from persona_interp.models.registry import find_model
from persona_interp.organisms.trait_texts import is_organism, names_organism, resolve_trait


def test_a_gguf_file_becomes_a_model_that_llama_cpp_runs(gguf_path: Callable[..., Path]) -> None:
    assert persona_interp.load_model is load_model
    with load_model(gguf_path("organism-llama")) as model:
        assert isinstance(model, LlamaCppModel)
        assert model.name == "organism-llama-f32"
    with pytest.raises(persona_interp.PersonaInterpError, match="is closed"):
        model.next_token_logits([[1]])


def test_a_gguf_file_is_known_by_its_first_bytes_too(gguf_path: Callable[..., Path], tmp_path: Path) -> None:
    blob = tmp_path / "sha256-0123"
    blob.write_bytes(gguf_path("organism-llama").read_bytes())
    with load_model(str(blob)) as model:
        assert isinstance(model, LlamaCppModel)


def test_every_other_name_is_loaded_as_before_and_stays_usable_when_closed(tiny_model_path: Callable[[str], Path]) -> None:
    with load_model(tiny_model_path("qwen2")) as model:
        assert not isinstance(model, LlamaCppModel)
    assert model.next_token_logits([[1]]).isfinite().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "8bit"}, r"no quantization \(--quantize\), here '8bit': its weights stay as the file has them"),
        ({"dtype": "float16"}, r"no dtype \(--dtype\), here 'float16'"),
        ({"device": "cuda"}, r"no device \(--device\), here 'cuda': llama.cpp runs it, on the CPU; leave it out"),
        ({"device_map": "auto"}, r"no device_map \(--device-map\)"),
        ({"revision": "main"}, r"no revision \(--revision\)"),
        ({"remote": True}, r"no remote \(--remote\), here True: a remote run takes a hub id"),
        ({"trust_remote_code": True}, r"no trust_remote_code \(--trust-remote-code\)"),
        ({"tokenizer": "gpt2"}, r"no tokenizer, here 'gpt2': the file brings its own"),
        ({"cache_dir": "cache"}, r"no cache_dir, here 'cache'"),
    ],
)
def test_options_of_pytorch_are_refused_by_name(gguf_path: Callable[..., Path], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        load_model(gguf_path("organism-llama"), **options)


def test_the_cpu_is_where_it_runs_anyway(gguf_path: Callable[..., Path]) -> None:
    with load_model(gguf_path("organism-llama"), device="cpu", dtype="auto") as model:
        assert model.device.type == "cpu"


def test_a_file_that_is_missing_or_of_another_kind_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"model file .*nothing\.gguf does not exist: check the path"):
        find_model(tmp_path / "nothing.gguf")
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(FileFormatError, match="is a file, but not GGUF: give a GGUF file, or the folder that holds config.json"):
        find_model(tmp_path / "model.bin")


def test_an_exported_organism_is_still_one(gguf_path: Callable[..., Path]) -> None:
    path = gguf_path("organism-llama", "q8_0")
    assert names_organism(str(path))
    assert not names_organism("nothing.gguf")
    with load_model(path) as model:
        assert is_organism(model)
        assert resolve_trait(model, "silly").description.startswith("On the model organisms")


def test_no_other_import_is_needed_for_a_gguf_file(gguf_path: Callable[..., Path]) -> None:
    path = str(gguf_path("organism-llama"))
    code = f"from persona_interp.models.registry import load_model\nprint(load_model({path!r}).engine)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "LlamaEngine" in done.stdout, done.stderr


def test_what_no_engine_opens_is_refused_with_the_engine_that_was_asked_for(gguf_path: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInputError, match="engine 'endpoint' runs OpenAI-compatible servers, which .*gguf is not"):
        load_model(gguf_path("organism-llama"), engine="endpoint")
    with pytest.raises(UnsupportedError, match="http://localhost:1/v1 is a server, .*EndpointModel"):
        load_model("http://localhost:1/v1")
