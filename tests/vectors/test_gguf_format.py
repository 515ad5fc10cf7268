"""Control-vector files: as llama.cpp and repeng define them, and nothing lost between us and ourselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.formats.gguf import GgufFormat
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("org/Model-A", "abc", "f" * 64, n_layers=4, d_model=6)


def make(layers: tuple[int, ...]) -> PersonaVector:
    return PersonaVector(
        torch.randn(len(layers), 6, generator=torch.Generator().manual_seed(0)) * 1e-3,
        layers,
        "silly",
        MODEL,
        positions="response_avg",
        estimator="pca",
        counts={"rollouts": 8},
        statistics={"auroc": (None, *(0.1 + 0.2,) * (len(layers) - 1)), "resid_norm": (3.0,) * len(layers)},
        provenance={"created": "2026-01-01", "settings": {"seed": 3}},
        responses={"positive": [{"question": "Hé?", "response": "\u2028ok"}], "negative": []},
    )


def same(a: PersonaVector, b: PersonaVector) -> bool:
    names = ("layers", "trait", "model", "positions", "estimator", "counts", "statistics", "provenance", "responses")
    bits = torch.equal(a.directions.view(torch.int32), b.directions.view(torch.int32))
    return bits and all(getattr(a, name) == getattr(b, name) for name in names)


def foreign(path: Path, tensors: dict[str, np.ndarray], *, kind: str = "controlvector", hint: str | None = "llama") -> Path:
    """As repeng and llama.cpp's generator write them."""
    writer = GGUFWriter(str(path), kind)
    if hint is not None:
        writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def row(value: float, width: int = 6) -> np.ndarray:
    return np.full(width, value, dtype=np.float32)


@pytest.mark.parametrize("layers", [(1, 2, 3), (1, 3), (3,)])
def test_what_is_saved_is_what_is_loaded_to_the_bit(tmp_path, layers):
    vector = make(layers)
    path = vector.save(tmp_path / "deep" / "v.gguf")
    assert same(PersonaVector.load(path), vector)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_other_programs_find_what_they_look_for(tmp_path):
    reader = GGUFReader(make((1, 3)).save(tmp_path / "v.gguf"))
    field = {name: reader.fields[name].contents() for name in reader.fields}
    assert field["general.architecture"] == "controlvector"
    assert field["controlvector.model_hint"] == "org/Model-A"
    assert field["controlvector.layer_count"] == 2
    assert str(reader.fields["controlvector.layer_count"].types[0]) == str(reader.fields["GGUF.version"].types[0])  # uint32
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.3"]
    for tensor, values in zip(reader.tensors, make((1, 3)).directions, strict=True):
        assert tensor.data.dtype == np.float32
        assert tensor.data.shape == (6,)
        assert np.array_equal(tensor.data, values.numpy())
    GgufFormat(model_hint="qwen2").write(make((1, 3)), tmp_path / "hinted.gguf")
    assert GGUFReader(tmp_path / "hinted.gguf").fields["controlvector.model_hint"].contents() == "qwen2"


def test_layer_0_is_never_written_and_that_is_said(tmp_path, capsys):
    path = make((0, 1, 2, 3)).save(tmp_path / "v.gguf")
    assert "layer 0 is left out" in capsys.readouterr().err
    assert PersonaVector.load(path).layers == (1, 2, 3)
    assert same(PersonaVector.load(path), make((0, 1, 2, 3)).select((1, 2, 3)))
    with pytest.raises(InvalidInputError, match="layer 0 only.*.json or .safetensors"):
        make((0,)).save(tmp_path / "w.gguf")
    assert not (tmp_path / "w.gguf").exists()


def test_files_of_other_programs_are_numbered_by_block(tmp_path):
    path = foreign(tmp_path / "v.gguf", {"direction.2": row(2), "direction.1": row(1), "direction.10": row(10)})
    vector = PersonaVector.load(path, trait="silly")
    assert vector.layers == (1, 2, 10)
    assert vector.at(10)[0] == 10
    assert (vector.model.name, vector.model.n_layers, vector.trait) == ("unknown", 11, "silly"), "llama is an architecture"
    assert PersonaVector.load(path, model="org/Model-A").model.name == "org/Model-A"
    assert PersonaVector.load(foreign(tmp_path / "w.gguf", {"direction.1": row(1)}, hint=None)).model.name == "unknown"


def test_files_of_llama_cpps_own_generator_are_one_block_late(tmp_path):
    path = foreign(tmp_path / "v.gguf", {"direction.1": row(1), "direction.2": row(2)})
    vector = GgufFormat(generator_offset=True).read(path, model=MODEL, trait="silly")
    assert vector.layers == (0, 1)
    assert vector.at(0)[0] == 1
    assert vector.model == MODEL
    with pytest.raises(FileFormatError, match="written by this package"):
        GgufFormat(generator_offset=True).read(make((1, 2)).save(tmp_path / "ours.gguf"))


def test_whose_it_is_must_agree(tmp_path):
    path = make((1, 2)).save(tmp_path / "v.gguf")
    with pytest.raises(IncompatibleError, match="of model org/Model-A, not other"):
        PersonaVector.load(path, model="other")
    wide = foreign(tmp_path / "wide.gguf", {"direction.1": row(1, 8)})
    with pytest.raises(FileFormatError, match="width 8.*has 4 layers of width 6"):
        PersonaVector.load(wide, model=MODEL)
    deep = foreign(tmp_path / "deep.gguf", {"direction.4": row(1)})
    with pytest.raises(FileFormatError, match="up to layer 4"):
        PersonaVector.load(deep, model=replace(MODEL, fingerprint=""))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"direction.0": row(1)}, "'direction.0', which llama.cpp refuses"),
        ({"direction.x": row(1)}, "expected 'direction.1'"),
        ({"weight": row(1)}, "expected 'direction.1'"),
        ({"direction.1": row(1).astype(np.float16)}, "expected float32"),
        ({"direction.1": np.ones((2, 6), dtype=np.float32)}, "one dimension"),
        ({"direction.1": row(1), "direction.2": row(1, 7)}, "unequal widths"),
        ({"direction.1": row(np.nan)}, "NaN or infinite"),
    ],
)
def test_what_llama_cpp_would_refuse_is_refused(tmp_path, tensors, said):
    with pytest.raises(FileFormatError, match=said):
        PersonaVector.load(foreign(tmp_path / "v.gguf", tensors))


def test_damaged_files_say_what_is_wrong(tmp_path):
    with pytest.raises(FileFormatError, match="of kind 'llama', not 'controlvector'"):
        PersonaVector.load(foreign(tmp_path / "model.gguf", {"direction.1": row(1)}, kind="llama"))
    whole = make((1, 2)).save(tmp_path / "v.gguf").read_bytes()
    for cut in (0, 3, 30, 700, len(whole) - 50):
        (tmp_path / "cut.gguf").write_bytes(whole[:cut])
        with pytest.raises(FileFormatError, match=r"cut\.gguf"):
            PersonaVector.load(tmp_path / "cut.gguf")
    (tmp_path / "lies.gguf").write_bytes(whole.replace(b'"layers": [1, 2]', b'"layers": [1, 3]'))
    with pytest.raises(FileFormatError, match=r"layers \[1, 3\], but its directions are of \[1, 2\]"):
        PersonaVector.load(tmp_path / "lies.gguf")


def test_values_are_little_endian_floats_behind_the_header(tmp_path):
    vector = make((2,))
    content = vector.save(tmp_path / "v.gguf").read_bytes()
    assert content[-32:][:24] == vector.directions.numpy().astype("<f4").tobytes()  # padded to 32 bytes
    assert torch.equal(PersonaVector.load(tmp_path / "v.gguf").directions, vector.directions)
