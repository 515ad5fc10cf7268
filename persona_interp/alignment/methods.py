"""The alignments by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.registry import Registry

EFFECTS = "effects"
"""The method that matches what directions do to the likelihoods of texts, see `alignment.effects`; all others map states."""

ALIGNMENTS: Registry[type[LinearAlignment]] = Registry(
    "alignment method",
    "persona_interp.alignments",
    home="persona_interp.alignment",
    first=("procrustes", "cca", "ridge", "reduced-rank", "anchors", "naive"),
)
"""Name -> class of the maps of states. Entry points of the group ``persona_interp.alignments`` add to it."""

T = TypeVar("T", bound=type[LinearAlignment])


def register_alignment(name: str) -> Callable[[T], T]:
    """A decorator that lets vectors be transferred by an alignment: in Python, on the command line and on the page.

    Example:
        >>> @register_alignment("lasso")
        ... @dataclass
        ... class Lasso(LinearAlignment):
        ...     def _matrix(self, whole, parts): ...

    Raises:
        InvalidInputError: the name is taken.
    """

    def add(made: T) -> T:
        if name == EFFECTS:
            raise InvalidInputError(f"{ALIGNMENTS.kind} {name!r} is already registered: choose another name")
        ALIGNMENTS.register(name, made)
        return made

    return add


def alignment_names() -> tuple[str, ...]:
    """Every method that vectors can be transferred by: effects, then the maps of states."""
    return (EFFECTS, *ALIGNMENTS)


def alignment_method(name: str, **options: Any) -> LinearAlignment:
    """The alignment of that name, not fitted yet.

    Raises:
        UnknownNameError: there is none, or it has no such option; lists those there are.
    """
    made = ALIGNMENTS.find(name)
    known = [each.name for each in fields(made)]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return made(**options)
