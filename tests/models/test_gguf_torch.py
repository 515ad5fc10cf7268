"""GGUF files in PyTorch: the weights of the file in the real class, its options, and what cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError, MissingExtraError, UnsupportedError
from persona_interp.models import gguf_torch
from persona_interp.models.gguf_file import GgufHeader
from persona_interp.models.gguf_torch import DequantisedModel, _check_readable
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.load import load_model
from persona_interp.organisms.gguf_export import export_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(load_model("organism-llama", dtype="float32"), tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_the_weights_are_those_of_the_file(path: Path) -> None:
    with load_model(path, engine="torch", device="cpu") as model, load_model(path) as in_llama_cpp:
        assert isinstance(model, DequantisedModel)
        assert model.name == in_llama_cpp.name
        assert model.identity.weights_file == in_llama_cpp.identity.weights_file is not None
        ids = [list(range(3, 11))]
        ours, theirs = model.next_token_logits(ids), in_llama_cpp.next_token_logits(ids)
        torch.testing.assert_close(ours, theirs[:, : ours.shape[1]], rtol=1e-3, atol=2e-3)


def test_the_readers_of_other_packages_are_put_back(path: Path) -> None:
    before = (gguf.GGUFReader, gguf.get_tensor_name_map)
    load_model(path, engine="torch", device="cpu")
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


def test_no_trace_of_quantization_stays_on_the_model(path: Path) -> None:
    model = load_model(path, engine="torch", device="cpu")
    assert getattr(model.config, "quantization_config", None) is None
    assert getattr(model.hf_model, "hf_quantizer", None) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "8bit"}, r"no quantization \(--quantize\), here '8bit': its weights become the numbers they stand for"),
        ({"revision": "main"}, r"no revision \(--revision\)"),
        ({"remote": True}, r"no remote \(--remote\), here True"),
        ({"cache_dir": "cache"}, r"no cache_dir, here 'cache'"),
        ({"trust_remote_code": True}, r"no trust_remote_code"),
    ],
)
def test_options_it_does_not_take_are_refused_by_name(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        load_model(path, engine="torch", **options)


def test_an_engine_is_named_right_and_fits(path: Path, tiny_model_path: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidInputError, match="engine 'lama' is not one of torch, llama.cpp"):
        load_model(path, engine="lama")
    with pytest.raises(InvalidInputError, match="engine 'llama.cpp' runs GGUF files, which .*tiny-qwen2 is not"):
        load_model(tiny_model_path("qwen2"), engine="llama.cpp")
    assert load_model(tiny_model_path("qwen2"), engine="torch").n_layers == 4


def test_an_architecture_that_transformers_does_not_read_is_refused_with_the_way_out() -> None:
    header = GgufHeader(Path("some.gguf"), {"general.architecture": "rwkv7"}, ())
    with pytest.raises(UnsupportedError, match=r"architecture 'rwkv7', .* does not read \(it reads .*llama.*engine='llama.cpp'"):
        _check_readable(header)
    for known in ("llama", "qwen2", "gemma3", "gpt2", "qwen3moe", "gpt-oss"):
        _check_readable(GgufHeader(Path("some.gguf"), {"general.architecture": known}, ()))


def test_one_of_several_pieces_is_refused() -> None:
    header = GgufHeader(Path("some-00001-of-00003.gguf"), {"general.architecture": "llama", "split.count": 3}, ())
    with pytest.raises(FileFormatError, match="one of 3 pieces"):
        _check_readable(header)


def test_what_is_missing_is_named_with_its_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_torch, "find_spec", lambda name: None if name == "accelerate" else sys)
    with pytest.raises(MissingExtraError, match=r'pip install "persona-interp\[gguf-torch\]"'):
        load_model(path, engine="torch")


def test_a_damaged_file_is_told_as_such(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FileFormatError, match="is cut short"):
        load_model(tmp_path / "cut.gguf", engine="torch")


def test_identities_without_a_file_are_written_as_before() -> None:
    plain = ModelIdentity("m", None, "f", 2, 4)
    assert "weights_file" not in plain.to_json()
    filed = ModelIdentity("m", None, "f", 2, 4, "abc")
    assert ModelIdentity.from_json(filed.to_json()).weights_file == "abc"
    assert filed == plain, "the fingerprint says which weights, whatever they were read from"
    with pytest.raises(FileFormatError, match="field weights_file is malformed .expected text, found 3"):
        ModelIdentity.from_json({**filed.to_json(), "weights_file": 3})
