"""`export` and `import`: vectors go out to other programs and come back, and say how they are used there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

IDS = [[1, 2, 3, 4]]


def foreign(path: Path, numbers: range, width: int = 8) -> Path:
    """A control vector as other programs write it: direction.N is N everywhere."""
    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_uint32("controlvector.layer_count", len(numbers))
    for number in numbers:
        writer.add_tensor(f"direction.{number}", np.full(width, number, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("form", ["gguf", "safetensors", "json", "pt"])
def test_a_vector_comes_back_bit_for_bit_from_every_form(run: Callable, vector_file: Path, form: str) -> None:
    before = PersonaVector.load(vector_file)
    out = run("export", "--vectors", vector_file, "--to", form, "--output", f"out.{form}", "--layer", 1)
    assert out.code == 0, out.err
    assert run("import", f"out.{form}", "--output", "back.json").code == 0
    back = PersonaVector.load("back.json")
    kept = [layer for layer in before.layers if layer > 0 or form != "gguf"]  # llama.cpp has no layer 0
    assert list(back.layers) == kept
    assert torch.equal(back.directions, before.select(kept).directions)
    assert back.trait == ("unknown" if form == "pt" else "loud")


def test_the_gguf_export_prints_lines_ready_for_llama_cpp(run: Callable, vector_file: Path) -> None:
    ran = run("export", "--vectors", vector_file, "--to", "gguf", "--output", "c v.gguf", "--layer", "1", "--coefficient", -1.5)
    for program in ("llama-cli", "llama-server"):
        wanted = f"{program} -m MODEL.gguf --control-vector-scaled 'c v.gguf:-1.5' --control-vector-layer-range 1 1"
        assert wanted in ran.out.splitlines()
    ran = run("export", "--vectors", vector_file, "--to", "gguf", "--output", "c.gguf", "--layer", "0,1")
    assert ran.code == 0
    assert "one unbroken range of layers from 1 on, not 0, 1" in ran.out
    ran = run(
        "export", "--vectors", vector_file, "--to", "gguf", "--output", 'a, "b".gguf', "--layer", 1, "--coefficient", 0.1234567
    )
    assert """ --control-vector-scaled '"a, ""b"".gguf:0.1234567"' """ in ran.out  # a quoted entry of a row of CSV
    ran = run("export", "--vectors", vector_file, "--to", "gguf", "--output", "a:b.gguf", "--layer", 1)
    assert (ran.code, "cannot open a:b.gguf: name it otherwise" in ran.out) == (0, True)


def test_weights_hold_the_vector(
    run: Callable, vector_file: Path, tiny_model: Callable[[str], SteerableModel], tiny_model_path: Callable[[str], Path]
) -> None:
    words = ("export", "--vectors", vector_file, "--to", "weights", "--layer", 1, "--coefficient", 2, "--output", "baked")
    ran = run(*words, "--model", tiny_model_path("qwen2"))
    assert ran.code == 0, ran.err
    graph = PersonaVector.load(vector_file).graph(2.0, layers=[1])
    plain, steered = (tiny_model("qwen2").next_token_logits(IDS, graph=each) for each in (None, graph))
    assert torch.allclose(load_model("baked").next_token_logits(IDS), steered, atol=1e-4)
    assert not torch.allclose(plain, steered, atol=1e-2)


def test_files_of_other_programs_are_read_and_the_generator_is_one_late(run: Callable, tmp_path: Path) -> None:
    file = foreign(tmp_path / "other.gguf", range(1, 4))
    assert run("import", file, "--output", "plain.json", "--trait", "loud").code == 0
    assert run("import", file, "--output", "shifted.json", "--generator-offset").code == 0
    plain, shifted = PersonaVector.load("plain.json"), PersonaVector.load("shifted.json")
    assert (plain.layers, plain.trait, shifted.layers) == ((1, 2, 3), "loud", (0, 1, 2))
    assert torch.equal(plain.directions, shifted.directions)


def test_an_imported_control_vector_that_hints_at_an_architecture_steers_a_model_of_it(
    run: Callable, tiny_model_path: Callable[[str], Path], tmp_path: Path
) -> None:
    file = foreign(tmp_path / "other.gguf", range(1, 4), width=32)
    assert run("import", file, "--output", "x.json", "--trait", "silly").code == 0
    for vectors in ("x.json", file):
        words = ("apply-steering", "--vectors", vectors, "--prompt", "Why?", "--max-new-tokens", 2)
        ran = run(*words, "--model", tiny_model_path("qwen2"))
        assert ran.code == 0, ran.err
        assert "does not say whose it is; it fits by shape only" in ran.err
        ran = run(*words, "--model", tiny_model_path("llama"))
        assert ran.code == 2
        assert "is of a model of architecture 'qwen2', and tiny-llama is of 'llama'" in ran.err


def test_the_line_for_llama_cpp_never_names_a_layer_it_cannot_steer(run: Callable, vector_file: Path) -> None:
    vector = PersonaVector.load(vector_file)
    scores = {"effectiveness": (0.9, 0.1, 0.5, 0.1)}
    replace(vector, statistics=scores).save(vector_file)
    ran = run("export", "--vectors", vector_file, "--to", "gguf", "--output", "v.gguf")
    assert (ran.code, "--control-vector-layer-range 2 2" in ran.out) == (0, True), ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "--to", "weights", "--output", "w"), "--to weights needs --model"),
        (("export", "--to", "json", "--output", "x.json", "--model", "gpt2"), "--to json takes no --model"),
        (("export", "--to", "gguf", "--output", "x.json"), "name a .gguf file"),
    ],
)
def test_mistakes_in_exports_are_told(run: Callable, vector_file: Path, words: tuple[str, ...], said: str) -> None:
    ran = run(*words, "--vectors", vector_file)
    assert ran.code == 2
    assert said in ran.err


def test_mistakes_in_imports_are_told(run: Callable, vector_file: Path, tmp_path: Path) -> None:
    ran = run("import", vector_file, "--output", "x.gguf")
    assert (ran.code, "name a .json or .safetensors file" in ran.err) == (2, True)
    ran = run("import", vector_file, "--output", "x.json", "--generator-offset")
    assert (ran.code, "--generator-offset is for .gguf files" in ran.err) == (2, True)
    (tmp_path / "cut.gguf").write_bytes(foreign(tmp_path / "other.gguf", range(1, 4)).read_bytes()[:60])
    ran = run("import", tmp_path / "cut.gguf", "--output", "x.json")
    assert ran.code == 2
    assert re.search("cut short", ran.err)
    assert not Path("x.json").exists()
