"""Models in several GGUF files, as ``gguf-split`` makes them: the first holds what is said, and it or the others the tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from persona_interp.errors import FileFormatError
from persona_interp.models.gguf_file import GgufHeader, read_header

_NAME = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"


def read_model_header(path: Path) -> GgufHeader:
    """The header of a model: `read_header`, and where it lies in pieces the tensors of all of them.

    Args:
        path: the file, or the first of its pieces; the others lie beside it under the names they were made with.

    Raises:
        FileFormatError: as `read_header`; another piece than the first, a missing one, or one of another model; names it.
    """
    path = Path(path)
    header = read_header(path)
    count = _number(header, _COUNT)
    if count <= 1:
        return header
    named = _NAME.fullmatch(path.stem)
    number = _number(header, _NUMBER)
    if number:
        first = f", {piece_path(path, named['model'], 1, count)}" if named else ""
        raise FileFormatError(f"GGUF file {path} is piece {number + 1} of {count} of a model: give the first piece{first}")
    if named is None or (int(named["number"]), int(named["count"])) != (1, count):
        raise FileFormatError(
            f"GGUF file {path} is the first of {count} pieces, which are found by their names: call it "
            f"{piece_path(path, path.stem, 1, count).name}, and the others likewise"
        )
    pieces = [header, *(_piece(path, named["model"], number, count) for number in range(2, count + 1))]
    tensors = tuple(tensor for piece in pieces for tensor in piece.tensors)
    stated = header.metadata.get(_TENSORS, len(tensors))
    if len({tensor.name for tensor in tensors}) != len(tensors) or stated != len(tensors):
        raise FileFormatError(
            f"the {count} pieces of {path} hold {len(tensors)} tensors, the first says {stated}, each once: fetch them again"
        )
    return replace(header, tensors=tensors)


def piece_path(path: Path, model: str, number: int, count: int) -> Path:
    """Where piece `number` of `count`, counted from 1, lies beside `path`."""
    return path.with_name(f"{model}-{number:05d}-of-{count:05d}{path.suffix}")


def _piece(path: Path, model: str, number: int, count: int) -> GgufHeader:
    beside = piece_path(path, model, number, count)
    if not beside.is_file():
        raise FileFormatError(f"{path} is the first of {count} pieces, and {beside} is missing: fetch it into the same folder")
    header = read_header(beside)
    if (_number(header, _NUMBER), _number(header, _COUNT)) != (number - 1, count):
        raise FileFormatError(f"GGUF file {beside} is not piece {number} of {count} of {path}: fetch it again")
    return header


def _number(header: GgufHeader, key: str) -> int:
    return header.required(key, int) if key in header.metadata else 0
