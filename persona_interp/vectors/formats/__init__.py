"""File formats of persona vectors, chosen by suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from persona_interp.errors import FileFormatError, IncompatibleError
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.names import same_name
from persona_interp.registry import Registry
from persona_interp.vectors.basis import same_basis
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

    @property
    def for_others(self) -> bool:
        """Whether it is another program's, which only ``export`` writes."""
        ...

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically."""
        ...

    def read(self, path: Path, *, model: str | ModelIdentity | None, trait: str | None) -> PersonaVector:
        """Read and validate; `model` and `trait` fill in what such a file cannot say."""
        ...


FORMATS: Registry[VectorFormat] = Registry(
    "vector format",
    "persona_interp.formats",
    home="persona_interp.vectors.formats.built_in",
    first=(".json", ".safetensors", ".pt", ".gguf"),
)
"""Suffix -> format. Entry points of the group ``persona_interp.formats`` add to it."""


def register_format(new: VectorFormat) -> VectorFormat:
    """Let vectors be saved and loaded, exported and imported under the suffix of `new`.

    Raises:
        InvalidInputError: its suffix is taken.
    """
    FORMATS.register(new.suffix, new)
    return new


def result_suffixes() -> tuple[str, ...]:
    """Endings that a command can write a new vector under."""
    return tuple(suffix for suffix, each in FORMATS.items() if not each.for_others)


def own_suffixes() -> tuple[str, ...]:
    """Those of them whose files say all there is to say."""
    return tuple(suffix for suffix in result_suffixes() if FORMATS[suffix].says_whose)


def export_names() -> tuple[str, ...]:
    """What vectors can be exported to: endings without the dot, those of other programs first."""
    return tuple(suffix[1:] for suffix in sorted(FORMATS, key=lambda suffix: not FORMATS[suffix].for_others))


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
    return FORMATS.find(suffix or path.name, "The ending of the file name chooses the format.")


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
