"""Traits by name: those that ship with the package, and the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from persona_interp.errors import FileFormatError, InvalidInputError, unknown_name
from persona_interp.storage import home
from persona_interp.traits.trait import Trait

_LIBRARY = Path(str(resources.files("persona_interp.traits"))) / "library"
_REMEDY = "Give the path of a .json trait file, or add yours with `persona-interp traits add FILE`."


def load_trait(name_or_path: str | Path) -> Trait:
    """A trait by name (the library first, then the user's folder) or from a JSON file.

    Text is taken as a path when it ends in ``.json`` or contains a path separator; a `Path` always is.

    Example:
        >>> load_trait("honest").name
        'honest'

    Raises:
        UnknownNameError: no trait has this name; lists those there are and the closest.
        FileFormatError: the file is missing or not a trait; names the file and the field.
    """
    if isinstance(name_or_path, Path) or _is_path(name_or_path):
        return Trait.load(name_or_path)
    known = trait_names()
    if name_or_path not in known:
        raise unknown_name("trait", name_or_path, known, _REMEDY)
    folder = _LIBRARY if known[name_or_path] == "library" else _user_folder()
    path = folder / f"{name_or_path}.json"
    trait = Trait.load(path)
    if trait.name != name_or_path:
        raise FileFormatError(f"trait file {path}: field 'name' is {trait.name!r}; the file's own name says {name_or_path!r}")
    return trait


def trait_names() -> dict[str, str]:
    """Every trait that can be loaded by name, in alphabetical order, with where it comes from: ``library`` or ``user``."""
    library = _names_in(_LIBRARY)
    reserved = {name.casefold() for name in library}
    user = [name for name in _names_in(_user_folder()) if name.casefold() not in reserved]
    origins = dict.fromkeys(library, "library") | dict.fromkeys(user, "user")
    return dict(sorted(origins.items()))


def add_trait(trait: Trait, *, overwrite: bool = False) -> Path:
    """Save `trait` in the user's folder, from where `load_trait` finds it by name.

    Args:
        trait: its name becomes the file name.
        overwrite: replace a user trait of the same name. Traits of the library are never replaced or hidden.

    Returns:
        The file written.

    Raises:
        InvalidInputError: the name is one of the library's, or a user trait has it and `overwrite` is off.
        PersonaInterpError: the folder cannot be written.
    """
    taken = [name for name in _names_in(_LIBRARY) if name.casefold() == trait.name.casefold()]
    if taken:
        raise InvalidInputError(f"{taken[0]!r} is a trait of the library, which is not replaced; give yours another name")
    path = _user_folder() / f"{trait.name}.json"
    if path.exists() and not overwrite:
        raise InvalidInputError(f"there is already a trait {trait.name!r} in {path.parent}; give another name, or overwrite it")
    return trait.save(path)


def _user_folder() -> Path:
    return home() / "traits"


def _names_in(folder: Path) -> list[str]:
    # Path.glob of a folder that does not exist yields nothing; names that could not be written by add_trait are skipped.
    return sorted(path.stem for path in folder.glob("*.json") if _could_be_added(path.stem))


def _could_be_added(stem: str) -> bool:
    return not _is_path(stem) and not stem.startswith(".")


def _is_path(text: str) -> bool:
    return text.lower().endswith(".json") or "/" in text or "\\" in text
