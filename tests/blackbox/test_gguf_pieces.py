"""Models in several GGUF files: the same model as in one, also where the first holds no tensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest
import torch

from persona_interp.errors import FileFormatError
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.gguf_pieces import read_model_header
from persona_interp.models.load import load_model
from persona_interp.models.registry import load_model as load_any
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation

ASKED = [Conversation.ask("What colour is the boat?"), Conversation.ask("How big is the house?", system="Be silly.")]
NAME = "organism-qwen2"
HOW = {"tensors first": {}, "an empty first piece": {"small_first_shard": True}}


def split(whole: Path, target: Path, **how: int) -> Path:
    """Write the pieces of a file as `gguf-split` does; the first of them."""
    write_again(whole, target, split_max_tensors=40, **how)
    return next(target.parent.glob(f"{target.stem}-00001-of-*.gguf"))


def write_again(source: Path, target: Path, **how: int) -> None:
    """The content of a file anew, without what this package says of its own."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(str(target), reader.fields["general.architecture"].contents(), **how)
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "persona_interp.")):
            kind, *sub = field.types
            writer.add_key_value(field.name, field.contents(), kind, sub[0] if sub else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


@pytest.fixture(scope="module", params=HOW)
def pieces(request, gguf_path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    return split(gguf_path(NAME), folder / "model.gguf", **HOW[request.param])


@pytest.fixture(scope="module")
def whole(gguf_path, tmp_path_factory) -> Path:
    """The same content in one file."""
    target = tmp_path_factory.mktemp("whole") / "model.gguf"
    write_again(gguf_path(NAME), target)
    return target


def test_pieces_are_the_model_they_were_made_from(pieces: Path, whole: Path) -> None:
    with load_model(pieces) as found, load_model(whole) as expected:
        assert found.dtype == expected.dtype == torch.float32
        assert found.identity.fingerprint == expected.identity.fingerprint
        ours, theirs = (model.generate(ASKED, sampling=Sampling(12, 0.0)) for model in (found, expected))
        assert [answer.answer_ids for answer in ours] == [answer.answer_ids for answer in theirs]


def test_all_pieces_count_in_fingerprint_and_dtype(pieces: Path, tmp_path: Path) -> None:
    with LlamaCppModel(pieces) as model:
        expected = model.identity.fingerprint
    last = sorted(pieces.parent.iterdir())[-1]
    for path in pieces.parent.iterdir():
        shutil.copy(path, tmp_path)
    tensor = read_model_header(pieces).tensors[-1]
    assert tensor.file == last
    content = bytearray((tmp_path / last.name).read_bytes())
    content[tensor.offset] ^= 1
    (tmp_path / last.name).write_bytes(content)
    with LlamaCppModel(tmp_path / pieces.name) as changed:
        assert changed.identity.fingerprint != expected


def test_another_piece_is_refused_and_the_first_named(pieces: Path) -> None:
    second = Path(str(pieces).replace("-00001-of-", "-00002-of-"))
    first = r"give the first piece, .*model-00001-of-0000\d\.gguf"
    with pytest.raises(FileFormatError, match=r"is piece 2 of \d of a model: " + first):
        load_model(second)


def test_a_missing_piece_is_named(pieces: Path, tmp_path: Path) -> None:
    shutil.copy(pieces, tmp_path)
    with pytest.raises(FileFormatError, match=r"model-00002-of-0000\d\.gguf is missing: fetch it into the same folder"):
        load_model(tmp_path / pieces.name)


def test_pieces_of_different_models_are_told_apart(pieces: Path, tmp_path: Path) -> None:
    for path in pieces.parent.iterdir():
        shutil.copy(path, tmp_path)
    second = tmp_path / pieces.name.replace("-00001-of-", "-00002-of-")
    shutil.copy(tmp_path / pieces.name.replace("-00001-of-", "-00003-of-"), second)
    with pytest.raises(FileFormatError, match=r"model-00002-of-0000\d\.gguf is not piece 2 of \d of "):
        load_model(tmp_path / pieces.name)


def test_a_first_piece_of_another_name_says_what_it_must_be_called(pieces: Path, tmp_path: Path) -> None:
    shutil.copy(pieces, tmp_path / "mine.gguf")
    with pytest.raises(FileFormatError, match=r"found by their names: call it mine-00001-of-0000\d\.gguf"):
        load_any(tmp_path / "mine.gguf")
