"""File formats of persona vectors, chosen by suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, unknown_name
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.names import same_name
from persona_interp.vectors.basis import same_basis
from persona_interp.vectors.formats.gguf import GgufFormat
from persona_interp.vectors.formats.json import JsonFormat
from persona_interp.vectors.formats.pt import PtFormat
from persona_interp.vectors.formats.safetensors import SafetensorsFormat
from persona_interp.vectors.persona_vector import PersonaVector


@runtime_checkable
class VectorFormat(Protocol):
    """How vectors are written to one kind of file."""

    @property
    def suffix(self) -> str:
        """File name ending, with its dot."""
        ...

    @property
    def says_whose(self) -> bool:
        """Whether a file of this kind names model and trait."""
        ...

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically."""
        ...

    def read(self, path: Path, *, model: str | ModelIdentity | None, trait: str | None) -> PersonaVector:
        """Read and validate; `model` and `trait` fill in what such a file cannot say."""
        ...


FORMATS: dict[str, VectorFormat] = {}


def register(new: VectorFormat) -> None:
    """Add a format.

    Raises:
        InvalidInputError: its suffix is taken.
    """
    if new.suffix in FORMATS:
        raise InvalidInputError(f"a vector format for {new.suffix} is already there: choose another suffix")
    FORMATS[new.suffix] = new


_FORMATS: tuple[VectorFormat, ...] = (JsonFormat(), SafetensorsFormat(), PtFormat(), GgufFormat())
for _format in _FORMATS:
    register(_format)


def save(vector: PersonaVector, path: Path) -> Path:
    """Write `vector` in the format of the suffix; returns the path.

    Raises:
        UnknownNameError: no format has that suffix.
        InvalidInputError: the format cannot hold this vector.
        PersonaInterpError: no permission, or the disk is full; nothing half-written is left.
    """
    _format_of(path).write(vector, path)
    return path


def load(path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
    """Read a vector in the format of the suffix; see `PersonaVector.load`."""
    if path.is_dir():
        raise FileFormatError(f"vector file {path} is a folder: give a file, {', '.join(FORMATS)}")
    chosen = _format_of(path)
    if not path.is_file():
        raise FileFormatError(f"vector file {path} does not exist{' as a file' if path.exists() else ''}: check the path")
    vector = chosen.read(path, model=model, trait=trait)
    if chosen.says_whose:
        _check_agrees(vector, path, model, trait)
    return vector


def _format_of(path: Path) -> VectorFormat:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise unknown_name("vector format", suffix or path.name, FORMATS, "The ending of the file name chooses the format.")
    return FORMATS[suffix]


def _check_agrees(vector: PersonaVector, path: Path, model: str | ModelIdentity | None, trait: str | None) -> None:
    if isinstance(model, ModelIdentity):
        agrees = same_basis(model, vector.model)
    else:
        agrees = model is None or same_name(model, vector.model.name)
    if not agrees:
        said = model.name if isinstance(model, ModelIdentity) else model
        raise IncompatibleError(
            f"vector file {path} is of model {vector.model.name}, not {said}: load it without `model`, or transfer it"
        )
    if trait is not None and trait != vector.trait:
        raise IncompatibleError(f"vector file {path} is of trait {vector.trait!r}, not {trait!r}: load it without `trait`")
