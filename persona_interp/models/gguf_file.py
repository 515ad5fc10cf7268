"""The header of a GGUF file, read strictly: whatever does not add up is an error here, before llama.cpp could stumble over it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Memory is bounded
whatever a file states: numbers stay in arrays, and of texts, fields and tensors there are no more than a model can need.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persona_interp.errors import FileFormatError
from persona_interp.models.engines.llama_cpp.library import gguf

# What this package writes into the metadata of files it makes: whose weights they hold.
FINGERPRINT = "persona_interp.fingerprint"
ORGANISM = "persona_interp.organism"

MAGIC = b"GGUF"
GGUF_SUFFIX = ".gguf"
_VERSIONS = (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_MOST_DIMENSIONS = 4
_SAMPLES = 4
_SAMPLED_BYTES = 256
_MOST_FIELDS = _MOST_TENSORS = 2**17
"""A hundred times what the largest models have."""
_MOST_TEXTS = 2**21
"""Vocabulary and merges of the largest tokenizers are less than a million together."""
_MOST_NUMBERS = 2**20
"""In a field that is not the tokenizer's, which has numbers by layer or head."""

_ENDS = ("eos", "eot", "eom")


def stated_ends(metadata: Mapping[str, Any]) -> list[int]:
    """The ids at which a file says that a text, a turn or a message ends.

    llama.cpp itself ends at more, by their names: among them tokens that part files from one another (``<reponame>``).
    """
    ids = {metadata.get(f"tokenizer.ggml.{which}_token_id") for which in _ENDS}
    n_tokens = len(metadata.get("tokenizer.ggml.tokens", ()))
    return sorted(index for index in ids if isinstance(index, int) and 0 <= index < n_tokens)


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies.

    Attributes:
        name: for example ``blk.0.attn_q.weight``.
        shape: fastest axis first, as the file has it.
        kind: ggml's number of its type; 0 is float32, 1 float16.
        offset: its first byte, from the beginning of the file.
        n_bytes: None where the type is one that the installed gguf package does not know.
        file: where it lies; a model may have several.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    n_bytes: int | None
    file: Path


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        path: the file.
        metadata: its fields; arrays of texts are lists, those of numbers numpy arrays.
        tensors: where they lie.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]

    def required(self, key: str, kind: type) -> Any:
        """The value at `key`.

        Raises:
            FileFormatError: it is missing or not a `kind`.
        """
        value = self.metadata.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            said = "is missing" if value is None else f"is {value!r:.60}"
            raise FileFormatError(f"GGUF file {self.path}: {key!r} {said}, expected {kind.__name__}: download or export it again")
        return value


def is_gguf(path: Path) -> bool:
    """Whether a file is called ``.gguf``, or begins like one under another name."""
    if path.suffix.lower() == GGUF_SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> GgufHeader:
    """Read metadata and tensor table, and check that the file holds all of what they promise.

    Raises:
        FileFormatError: missing, empty, not GGUF, of an unknown version, damaged or cut short; says which.
        MissingExtraError: the extra ``gguf`` is not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise FileFormatError(f"GGUF file {path} is empty: download or export it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except FileNotFoundError as error:
        raise FileFormatError(f"GGUF file {path} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"GGUF file {path} cannot be read: {error}") from error


def file_fingerprint(header: GgufHeader) -> str:
    """sha256 over the shape of the model and the names, kinds and some bytes of all its tensors, in whatever pieces they lie."""
    digest = hashlib.sha256()
    digest.update(json.dumps(_essentials(header.metadata), sort_keys=True, default=str).encode())
    with ExitStack() as opened:
        files = {path: opened.enter_context(path.open("rb")) for path in {tensor.file for tensor in header.tensors}}
        for tensor in sorted(header.tensors, key=lambda tensor: tensor.name):
            file = files[tensor.file]
            digest.update(f"{tensor.name}{tensor.shape}{tensor.kind}".encode())
            for sample in range(_SAMPLES):
                file.seek(tensor.offset + (tensor.n_bytes or 0) * sample // _SAMPLES)
                digest.update(file.read(min(_SAMPLED_BYTES, tensor.n_bytes or 0)))
    return digest.hexdigest()


def _essentials(metadata: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("general.name", "tokenizer.", "persona_interp.", "split.")
    kept = {key: value for key, value in metadata.items() if not key.startswith(left_out)}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in kept.items()}


class _Reader:
    """A cursor over the bytes; every length is checked against the end before it is followed."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at, self._size = path, data, 0, len(data)
        self._n_texts = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != MAGIC:
            raise FileFormatError(f"{self._path} is no GGUF file (it begins with {self._data[:4]!r}): give a .gguf model")
        self._at = 4
        version = self._scalar("<I", "the version")
        if version not in _VERSIONS:
            raise FileFormatError(
                f"GGUF file {self._path} is of version {version}; versions 2 and 3, little-endian, are read: convert it again"
            )
        n_tensors, n_fields = self._scalar("<Q", "its counts"), self._scalar("<Q", "its counts")
        if n_fields > _MOST_FIELDS or n_tensors > _MOST_TENSORS:
            raise self._damaged(f"it states {n_fields} metadata fields and {n_tensors} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(n_fields):
            key = self._text("the name of a metadata field")
            if key in metadata:
                raise self._damaged(f"metadata field {key!r} stands in it twice")
            metadata[key] = self._value(self._scalar("<I", key), key)
        infos = [self._info() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment!r}, expected a power of two")
        begin = -(-self._at // alignment) * alignment
        tensors = tuple(self._tensor(info, begin, alignment) for info in infos)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise self._damaged("two tensors have one name")
        return GgufHeader(self._path, metadata, tensors)

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text("the name of a tensor")
        n_dims = self._scalar("<I", name)
        if not 1 <= n_dims <= _MOST_DIMENSIONS:
            raise self._damaged(f"tensor {name!r} has {n_dims} dimensions")
        shape = tuple(self._scalar("<Q", name) for _ in range(n_dims))
        return name, shape, self._scalar("<I", name), self._scalar("<Q", name)

    def _tensor(self, info: tuple[str, tuple[int, ...], int, int], begin: int, alignment: int) -> GgufTensor:
        name, shape, kind, offset = info
        if not all(shape) or math.prod(shape) > 8 * self._size or offset % alignment:
            raise self._damaged(f"tensor {name!r} has shape {list(shape)} at offset {offset}")
        sizes = gguf().GGML_QUANT_SIZES
        n_bytes = None
        if kind in set(sizes):
            block, width = sizes[kind]
            if shape[0] % block:
                raise self._damaged(f"tensor {name!r} has rows of {shape[0]}, which do not divide into blocks of {block}")
            n_bytes = math.prod(shape) // block * width
        if begin + offset + (n_bytes or 0) > self._size:
            raise FileFormatError(
                f"GGUF file {self._path} is cut short: tensor {name!r} ends at byte {begin + offset + (n_bytes or 0)}, the file "
                f"has {self._size}: download or export it again"
            )
        return GgufTensor(name, shape, kind, begin + offset, n_bytes, self._path)

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._text(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self._damaged(f"metadata field {key!r} is of the unknown type {kind}")
        return self._scalar(_SCALARS[kind], key)

    def _array(self, key: str) -> list[str] | np.ndarray:
        kind, count = self._scalar("<I", key), self._scalar("<Q", key)
        if kind == _STRING:
            if 8 * count > self._size - self._at:
                raise self._cut(key)
            return [self._text(key) for _ in range(count)]
        if kind not in _SCALARS:
            raise self._damaged(f"metadata field {key!r} is an array of the unknown type {kind}")
        width = struct.calcsize(_SCALARS[kind])
        if count * width > self._size - self._at:
            raise self._cut(key)
        if count > _MOST_NUMBERS and not key.startswith("tokenizer."):
            raise self._damaged(f"metadata field {key!r} holds {count} numbers")
        stored = "u1" if kind == _BOOL else f"<{np.dtype(_SCALARS[kind]).str[1:]}"
        values = np.frombuffer(self._data[self._at : self._at + count * width], stored) if count else np.zeros(0, stored)
        self._at += count * width
        return values != 0 if kind == _BOOL else values

    def _scalar(self, code: str, where: str) -> Any:
        end = self._at + struct.calcsize(code)
        if end > self._size:
            raise self._cut(where)
        (value,) = struct.unpack_from(code, self._data, self._at)
        self._at = end
        return value

    def _text(self, where: str) -> str:
        length = self._scalar("<Q", where)
        if length > self._size - self._at:
            raise self._cut(where)
        self._n_texts += 1
        if self._n_texts > _MOST_TEXTS:
            raise self._damaged(f"it holds more than {_MOST_TEXTS} texts")
        raw = self._data[self._at : self._at + length]
        self._at += length
        return raw.decode("utf-8", "surrogateescape")

    def _cut(self, where: str) -> FileFormatError:
        return FileFormatError(
            f"GGUF file {self._path} is cut short or damaged: it ends in the middle of its header ({where!r:.80}): download or "
            "export it again"
        )

    def _damaged(self, what: str) -> FileFormatError:
        return FileFormatError(f"GGUF file {self._path} is damaged: {what:.200}: download or export it again")
