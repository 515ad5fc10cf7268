"""Files in and out: every format comes back, and what cannot be used is refused in words and leaves nothing behind."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.demo import limits, vector_files
from persona_interp.demo.shelf import Shelf
from persona_interp.demo.site import Site
from persona_interp.demo.vector_files import file_name, read_upload, shown_name, write_downloads
from persona_interp.errors import PersonaInterpError
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.formats import FORMATS
from persona_interp.vectors.lineage import KEY, Lineage
from persona_interp.vectors.persona_vector import PersonaVector

RandomVector = Callable[..., PersonaVector]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "session"
    path.mkdir()
    return path


def test_a_vector_comes_back_from_every_format(
    model: SteerableModel, random_vector: RandomVector, folder: Path, tmp_path: Path
) -> None:
    vector = random_vector(model)
    written, refused = write_downloads(vector, tmp_path)
    assert [path.name for path in written] == [f"organism-qwen2_silly{suffix}" for suffix in FORMATS]
    assert refused == []
    for path in written:
        found = read_upload(path, model, folder, trait="silly")
        assert found.vector.trait == "silly"
        layers = [layer for layer in vector.layers if layer or path.suffix != ".gguf"]
        torch.testing.assert_close(found.vector.directions, vector.select(layers).directions)
        assert found.vector.same_basis(model.identity)
    assert list(folder.iterdir()) == []


def test_a_format_that_cannot_hold_a_vector_is_left_out_with_the_reason(
    model: SteerableModel, random_vector: RandomVector, tmp_path: Path
) -> None:
    written, refused = write_downloads(random_vector(model).select([0]), tmp_path)
    assert sorted(path.suffix for path in written) == [".json", ".safetensors"]
    assert len(refused) == 2
    assert not any(str(tmp_path) in said for said in refused)


def bad_json(model: SteerableModel, **changes: object) -> str:
    good = {
        "model_id": model.name,
        "trait_id": "silly",
        "vectors": {f"layer_{layer}": [0.5] * model.d_model for layer in range(model.n_layers)},
    }
    return json.dumps({**good, **changes})


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def torch_file(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (2 * 2**20))
    return buffer.getvalue()


REFUSED: dict[str, tuple[str, Callable[[SteerableModel], bytes], str]] = {
    "not json": ("a.json", lambda _: b"{", "'a.json' is not valid JSON"),
    "empty": ("a.json", lambda _: b"", "'a.json' is not valid JSON"),
    "no vector": ("a.json", lambda _: b'{"hello": "world"}', "model_id"),
    "a list": ("a.json", lambda _: b"[1, 2]", "holds a list"),
    "deep": ("a.json", lambda _: b"[" * 100_000, "cannot be read"),
    "nan": ("a.json", lambda m: bad_json(m, vectors={"layer_0": [float("nan")] * m.d_model}).encode(), "NaN"),
    "infinite": ("a.json", lambda m: bad_json(m, vectors={"layer_0": [1e999] * m.d_model}).encode(), "infinite"),
    "wrong width": ("a.json", lambda m: bad_json(m, vectors={"layer_0": [0.5] * 7}).encode(), "width 7"),
    "too many layers": ("a.json", lambda m: bad_json(m, vectors={"layer_99": [0.5] * m.d_model}).encode(), "layer 99"),
    "another model": ("a.json", lambda m: bad_json(m, model_id="somebody/else-7b").encode(), "is of somebody/else-7b, not of"),
    "text for numbers": ("a.json", lambda m: bad_json(m, vectors={"layer_0": ["x"] * m.d_model}).encode(), "layer_0"),
    "code": ("a.pt", lambda _: torch_file(Evil()), "could run code"),
    "a dictionary": ("a.pt", lambda _: torch_file({"a": torch.zeros(2)}), "holds a dict"),
    "another shape": ("a.pt", lambda _: torch_file(torch.zeros(3, 7)), "2 layers of width 7"),
    "whole numbers": ("a.pt", lambda _: torch_file(torch.zeros(9, 128, dtype=torch.long)), "expected one tensor"),
    "nan in a tensor": ("a.pt", lambda m: torch_file(torch.full((m.n_layers + 1, m.d_model), torch.nan)), "NaN"),
    "truncated": ("a.pt", lambda m: torch_file(torch.zeros(m.n_layers + 1, m.d_model))[:500], "truncated"),
    "noise": ("a.safetensors", lambda _: b"\xff" * 64, "safetensors"),
    "not ours": ("a.gguf", lambda _: b"GGUF" + b"\xff" * 64, "GGUF"),
    "a picture": ("a.png", lambda _: b"\x89PNG", "no vector file by its ending"),
    "no ending": ("vector", lambda _: b"{}", "no vector file by its ending"),
    "an archive": ("a.zip", lambda _: bomb(), "no vector file by its ending"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_upload_that_cannot_be_used_is_refused_in_words(
    what: str, model: SteerableModel, folder: Path, tmp_path: Path
) -> None:
    name, content, words = REFUSED[what]
    path = tmp_path / name
    path.write_bytes(content(model))
    with pytest.raises(PersonaInterpError) as caught:
        read_upload(path, model, folder)
    said = str(caught.value)
    assert words in said
    assert str(tmp_path) not in said
    assert list(folder.iterdir()) == []


def test_a_huge_upload_is_refused_before_it_is_read(
    model: SteerableModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(limits.MAX_UPLOAD + 1)  # a hole: takes no disk
    with pytest.raises(PersonaInterpError, match="'huge.json' has 64 MiB: at most 64 MiB"):
        read_upload(path, model, folder)
    monkeypatch.setattr(vector_files, "MAX_UNPACKED", 2**20)
    packed = tmp_path / "packed.pt"
    packed.write_bytes(bomb())
    with pytest.raises(PersonaInterpError, match="unpacks to 2 MiB"):
        read_upload(packed, model, folder)


def test_numbering_of_another_program_is_only_for_its_files(model: SteerableModel, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(bad_json(model))
    with pytest.raises(PersonaInterpError, match="leave that unticked"):
        read_upload(path, model, folder, generator_offset=True)
    assert "does not say from which weights" in read_upload(path, model, folder).note


def test_a_file_of_another_programs_control_vector_is_read_for_the_model(
    model: SteerableModel, random_vector: RandomVector, folder: Path, tmp_path: Path
) -> None:
    vector = random_vector(model)
    path = tmp_path / "foreign.gguf"
    import gguf

    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_uint32("controlvector.layer_count", model.n_layers - 1)
    for layer in range(1, model.n_layers):
        writer.add_tensor(f"direction.{layer}", vector.at(layer).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_upload(path, model, folder, trait="silly").vector
    assert found.layers == tuple(range(1, model.n_layers))
    shifted = read_upload(path, model, folder, trait="silly", generator_offset=True).vector
    assert shifted.layers == tuple(range(model.n_layers - 1))
    torch.testing.assert_close(shifted.at(2), vector.at(3))


def test_a_vector_of_a_copy_is_taken_and_one_of_another_model_of_the_page_is_carried_over(
    model: SteerableModel, shelf: Shelf, random_vector: RandomVector, folder: Path, tmp_path: Path, site: Site
) -> None:
    whose = {"provenance": {KEY: Lineage.of(model).to_json()}}
    made = random_vector(model)
    other_weights = replace(made, model=replace(made.model, name="chatty-q8_0", fingerprint="f" * 64), **whose)
    found = read_upload(other_weights.save(tmp_path / "copy.json"), model, folder)
    assert torch.equal(found.vector.directions, made.directions)
    assert "in their basis" in found.note
    llama = random_vector(shelf.model("organism-llama")).save(tmp_path / "llama.json")
    with pytest.raises(PersonaInterpError, match=r"is of organism-llama, not of organism-qwen2.*under Transfer"):
        read_upload(llama, model, folder, transfer="never", load=None)
    with pytest.raises(PersonaInterpError, match="organism-llama is not on this page"):
        read_upload(llama, model, folder)
    carried = read_upload(llama, model, folder, load=lambda name: nullcontext(site.shelf.model(name)))
    assert carried.vector.model == model.identity
    assert "carried over" in carried.note
    assert shelf.model("organism-llama").unembed(torch.zeros(1, 160)).shape[0] == 1, "what the page holds is not closed"


def test_a_control_vector_made_for_another_architecture_is_refused(model: SteerableModel, folder: Path, tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "foreign.gguf"
    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_tensor("direction.1", torch.ones(model.d_model).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(PersonaInterpError, match="architecture 'llama', and organism-qwen2 is of 'qwen2'"):
        read_upload(path, model, folder)


@pytest.mark.parametrize(
    ("given", "shown", "safe"),
    [
        ("../../etc/passwd", "'passwd'", "passwd"),
        ("..\\..\\boot.ini", "'boot.ini'", "boot.ini"),
        ("..", "'..'", "unnamed"),
        (".hidden", "'.hidden'", "hidden"),
        ("<script>alert(1)", "'<script>alert(1)'", "script-alert-1"),
        ("a\x00b\n.json", "'ab.json'", "a-b-.json"),
        ("Qwen/Qwen2.5", "'Qwen2.5'", "Qwen2.5"),
    ],
)
def test_names_never_become_paths(given: str, shown: str, safe: str) -> None:
    assert shown_name(given) == shown
    assert file_name(given) == safe
    assert len(shown_name("x" * 500)) < 70
    assert len(file_name("x" * 500)) <= 60
