"""Headers of GGUF files: what they state takes no more memory than they have, whatever they state."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from persona_interp.errors import FileFormatError
from persona_interp.models.gguf_file import read_header, stated_ends

U8, I8, U16, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 2, 4, 6, 7, 8, 9, 10


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def array(kind: int, count: int, content: bytes) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, count) + content


def gguf(fields: dict[str, bytes], *, n_tensors: int = 0, n_fields: int | None = None, tail: bytes = b"") -> bytes:
    counts = struct.pack("<IQQ", 3, n_tensors, len(fields) if n_fields is None else n_fields)
    return b"GGUF" + counts + b"".join(text(key.encode()) + value for key, value in fields.items()) + tail


def peak(path: Path) -> int:
    """Bytes that reading the header took at most."""
    tracemalloc.start()
    try:
        read_header(path)
    except FileFormatError:
        pass
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return taken


SIZE = 8 * 2**20
LARGE = {
    "bytes of the tokenizer": gguf({"tokenizer.ggml.scores": array(U8, SIZE, bytes(SIZE))}),
    "flags of the tokenizer": gguf({"tokenizer.ggml.flags": array(BOOL, SIZE, bytes(SIZE))}),
    "bytes of no tokenizer": gguf({"general.numbers": array(U8, SIZE, bytes(SIZE))}),
    "one long text": gguf({"general.name": struct.pack("<I", STRING) + text(b"a" * SIZE)}),
    "fields": gguf(
        {}, n_fields=SIZE // 32, tail=b"".join(text(b"%015d" % n) + struct.pack("<IB", U8, 0) for n in range(SIZE // 32))
    ),
    "tensors": gguf(
        {}, n_tensors=SIZE // 48,
        tail=b"".join(text(b"%015d" % n) + struct.pack("<IQIQ", 1, 32, 0, 0) for n in range(SIZE // 48)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LARGE)
def test_a_header_takes_a_few_times_its_own_size_at_most(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(LARGE[kind])
    assert peak(path) < 4 * path.stat().st_size


def test_more_texts_than_a_tokenizer_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.models import gguf_file

    monkeypatch.setattr(gguf_file, "_MOST_TEXTS", 100)
    (tmp_path / "many.gguf").write_bytes(gguf({"tokenizer.ggml.tokens": array(STRING, 200, text(b"ab") * 200)}))
    with pytest.raises(FileFormatError, match=r"many\.gguf is damaged: it holds more than 100 texts"):
        read_header(tmp_path / "many.gguf")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gguf({}, n_fields=2**17 + 1), "it states 131073 metadata fields and 0 tensors"),
        (gguf({}, n_tensors=2**60), "it states 0 metadata fields and 1152921504606846976 tensors"),
        (LARGE["bytes of no tokenizer"], "'general.numbers' holds 8388608 numbers"),
    ],
)
def test_numbers_no_model_has_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(FileFormatError, match=said):
        read_header(tmp_path / "odd.gguf")


@pytest.mark.parametrize(
    ("kind", "form", "numbers"),
    [
        (U8, "<3B", [0, 7, 255]),
        (I8, "<3b", [-128, 0, 127]),
        (U16, "<2H", [1, 65535]),
        (U32, "<2I", [1, 2**32 - 1]),
        (U64, "<2Q", [1, 2**64 - 1]),
        (F32, "<2f", [0.5, -2.0]),
        (BOOL, "<3B", [False, True, True]),
    ],
)
def test_arrays_of_numbers_hold_what_the_file_states(kind: int, form: str, numbers: list, tmp_path: Path) -> None:
    content = bytes([0, 1, 2]) if kind == BOOL else struct.pack(form, *numbers)
    (tmp_path / "a.gguf").write_bytes(gguf({"numbers": array(kind, len(numbers), content)}))
    found = read_header(tmp_path / "a.gguf").metadata["numbers"]
    assert isinstance(found, np.ndarray)
    assert found.tolist() == numbers


def test_the_ends_a_file_states_are_those_of_texts_turns_and_messages_that_it_has() -> None:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eom_id|>"]
    stated = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 2, "tokenizer.ggml.eom_token_id": 3}
    assert stated_ends({"tokenizer.ggml.tokens": tokens, **stated}) == [2, 3]
    assert stated_ends({"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": 4}) == [], "no such token"
    assert stated_ends({}) == []
