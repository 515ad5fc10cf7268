"""Specimens: short texts of our own that show a trait of the library, and others on the same questions that do not."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from persona_interp.errors import FileFormatError
from persona_interp.storage import read_json
from persona_interp.traits.catalogue import load_trait, trait_names
from persona_interp.traits.trait import Trait

_FOLDER = Path(str(resources.files("persona_interp.traits"))) / "specimens"
_STAND_IN = "silly"
"""Told apart at a glance: who cannot rate these by their rubric rates nothing by a rubric."""


@dataclass(frozen=True)
class Specimen:
    """One answer.

    Attributes:
        question: what was asked.
        answer: two sentences or so.
        shows: whether it shows the trait.
    """

    question: str
    answer: str
    shows: bool


def specimens(trait: Trait) -> tuple[Trait, tuple[Specimen, ...]]:
    """Eight answers to four questions, and the trait they were written for.

    That is `trait` itself if it is one of the library. Nothing was written for others, and texts made up from their descriptions
    would test the making; for them *silly* stands in, with its own rubric, which tells whether a judge follows rubrics at all.

    Raises:
        FileFormatError: the package is damaged.
    """
    known = trait_names().get(trait.name) == "library"
    own = trait if known and load_trait(trait.name) == trait else load_trait(_STAND_IN)
    path = _FOLDER / f"{own.name}.json"
    try:
        rows = read_json(path, "specimens")["texts"]
        found = [Specimen(row["question"], row[kind], kind == "shows") for row in rows for kind in ("shows", "plain")]
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"specimens {path}: {error!r} is missing: install the package again") from error
    return own, tuple(found)
