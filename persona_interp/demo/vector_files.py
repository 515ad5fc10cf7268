"""Vectors in and out of the page as files. What is uploaded is only ever read as numbers and text."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from persona_interp.demo.limits import MAX_UNPACKED, MAX_UPLOAD, MIB
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, PersonaInterpError
from persona_interp.models.steerable import SteerableModel
from persona_interp.transfers.fitted_to import AUTO, Opener, fitted_to
from persona_interp.vectors.formats import FORMATS
from persona_interp.vectors.formats.gguf import GgufFormat
from persona_interp.vectors.persona_vector import PersonaVector

_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Upload:
    """A vector read from an uploaded file.

    Attributes:
        vector: of the model it was read for.
        note: what should be known about it; empty where there is nothing.
    """

    vector: PersonaVector
    note: str


def read_upload(
    path: Path,
    model: SteerableModel,
    folder: Path,
    *,
    trait: str = "",
    generator_offset: bool = False,
    transfer: str = AUTO,
    load: Opener | None = None,
) -> Upload:
    """Read a vector of `model` from a file somebody uploaded.

    Its name says only of which format it is: it is never part of a path. The file is read from a copy under a name of ours.

    Args:
        path: where the upload lies.
        model: whose vector it is to be.
        folder: for the copy, which is removed again.
        trait: what it is a vector of, where the file does not say.
        generator_offset: it is a file of llama.cpp's own generator, which numbers layers one too high.
        transfer: whether a vector of another model is carried over, as for `fitted_to`.
        load: opens that other model by its name; None: nothing is opened, because a file of a stranger names it.

    Raises:
        InvalidInputError: it is too large, or unpacks to too much.
        FileFormatError: it cannot be read as a vector.
        IncompatibleError: the vector is of another model, which is not at hand.
        UnknownNameError: no format has that ending.
    """
    shown = shown_name(path.name)
    size = path.stat().st_size
    if size > MAX_UPLOAD:
        raise InvalidInputError(f"{shown} has {size / MIB:.0f} MiB: at most {MAX_UPLOAD // MIB} MiB are taken here")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInputError(f"{shown} is no vector file by its ending: give one of {', '.join(FORMATS)}")
    copy = folder / f"upload{suffix}"
    try:
        shutil.copyfile(path, copy)
        _check_unpacked(copy, shown)
        vector = _read(copy, model, trait, generator_offset)
    except PersonaInterpError as error:
        raise type(error)(_without_path(str(error), copy, shown)) from error
    finally:
        copy.unlink(missing_ok=True)
    return _fitted(vector, model, shown, transfer, load)


def write_downloads(vector: PersonaVector, folder: Path) -> tuple[list[Path], list[str]]:
    """The vector in every format that can hold it, and for the others why not."""
    stem = f"{file_name(vector.model.name)}_{file_name(vector.trait)}"
    written: list[Path] = []
    refused: list[str] = []
    for suffix in FORMATS:
        path = folder / f"{stem}{suffix}"
        try:
            written.append(vector.save(path))
        except PersonaInterpError as error:
            refused.append(_without_path(str(error), path, path.name))
    return written, refused


def file_name(text: str) -> str:
    """`text` as part of a file name: letters, digits and ``. _ -``, never a path, never hidden."""
    return _NAME.sub("-", text.replace("\\", "/").rsplit("/", 1)[-1]).strip("-.")[:_LONGEST_NAME] or "unnamed"


def shown_name(name: str) -> str:
    """An uploaded file's name, short enough to be shown and without any folder."""
    last = "".join(sign for sign in name.replace("\\", "/").rsplit("/", 1)[-1] if sign.isprintable())
    return repr(last if len(last) <= _LONGEST_NAME else f"{last[: _LONGEST_NAME - 20]}…{last[-15:]}")


def _read(path: Path, model: SteerableModel, trait: str, generator_offset: bool) -> PersonaVector:
    if generator_offset and path.suffix != ".gguf":
        raise InvalidInputError(f"only .gguf files have llama.cpp's own numbering, not {path}: leave that unticked")
    named = trait or None
    if path.suffix == ".gguf" and generator_offset:
        return GgufFormat(generator_offset=True).read(path, model=model.identity, trait=named)
    if FORMATS[path.suffix].says_whose and path.suffix != ".gguf":
        return PersonaVector.load(path)
    try:
        return PersonaVector.load(path, model=model.identity, trait=named)
    except IncompatibleError:
        return PersonaVector.load(path)  # it says whose it is, which is checked with better words below


def _check_unpacked(path: Path, shown: str) -> None:
    """Refuse a small file that unpacks to a huge one, before anything unpacks it."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileFormatError(f"{shown} is a damaged archive ({error}): save it again") from error
    if total > MAX_UNPACKED:
        raise InvalidInputError(f"{shown} unpacks to {total / MIB:.0f} MiB: at most {MAX_UNPACKED // MIB} MiB are taken here")


def _fitted(vector: PersonaVector, model: SteerableModel, shown: str, transfer: str, load: Opener | None) -> Upload:
    whose = vector.model

    def nothing(_name: str) -> NoReturn:
        raise IncompatibleError(f"{whose.name} is not on this page")

    try:
        found = fitted_to(vector, model, transfer=transfer, load=nothing if load is None else load)
    except (FileFormatError, InvalidInputError):
        raise
    except PersonaInterpError as error:
        raise IncompatibleError(
            f"{shown} is of {whose.name}, not of {model.name}: {error}. Choose the model it was made in, then carry it over "
            "under Transfer"
        ) from error
    return Upload(found.vector, f"It {found.decision}." if found.decision else "")


def _without_path(message: str, path: Path, shown: str) -> str:
    return message.replace(str(path), shown)
