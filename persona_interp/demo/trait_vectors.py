"""The vectors of traits: which traits a model can show, and the vector of one, extracted when it is first asked for and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_SAMPLES, checked_whole
from persona_interp.errors import PersonaInterpError, UnknownNameError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.scored_vector import kept_file, scored_vector
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar import TRAITS
from persona_interp.organisms.trait_texts import is_organism
from persona_interp.storage import home
from persona_interp.traits.catalogue import trait_names
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLES = 1
"""Answers per instruction and question, for each sign: with five pairs and twenty questions 200 answers."""
TOKENS = 96


def traits_offered(*, organism: bool) -> list[str]:
    """Names of the traits offered: on an organism those of its grammar, else the library's; then the user's own."""
    names = trait_names()
    own = [name for name, origin in names.items() if origin == "user"]
    if organism:
        return [*TRAITS, *(name for name in own if name not in TRAITS)]
    return [*(name for name, origin in names.items() if origin == "library"), *own]


def judge_of(model: SteerableModel, trait: Trait) -> Judge:
    """Who scores answers for a trait: exact on an organism, for what its grammar knows.

    An organism follows no rubric, so other traits are scored there by how much likelier an answer is under the trait's own
    instructions. Other models score with the trait's rubric.
    """
    return load_judge("auto", model, trait=trait)


def folder_of(model: SteerableModel) -> Path:
    """Where the vectors of a model are kept: under ``demo`` in the user's data folder."""
    return home() / "demo" / model.identity.fingerprint[:16]


def kept_vector(model: SteerableModel, trait: Trait, samples: int = SAMPLES) -> PersonaVector | None:
    """The vector of `trait`, if it was extracted before."""
    path = kept_file(model, trait, folder_of(model), **_settings(model, trait, samples))
    try:
        return PersonaVector.load(path) if path.exists() else None
    except PersonaInterpError:
        return None  # it will be made again


def trait_vector(job: Job[Any], model: SteerableModel, trait: Trait, samples: object = SAMPLES) -> PersonaVector:
    """The vector of `trait` with scores of its layers, extracted unless it was before.

    What an extraction that is stopped has made stays, and the next one goes on from there.

    Raises:
        InvalidInputError: `samples` is out of range.
        PersonaInterpError: as `extract`.
    """
    number = checked_whole(samples, "number of samples", 1, MAX_SAMPLES)
    job.doing(f"{trait.name}: looking for its vector in {model.name}")
    return scored_vector(model, trait, folder_of(model), **_settings(model, trait, number))


def trait_called(model: SteerableModel, name: str) -> Trait:
    """The trait of that name, as `model` understands it.

    Raises:
        UnknownNameError: it is not offered for this model.
    """
    offered = traits_offered(organism=is_organism(model))
    if name not in offered:
        raise UnknownNameError(f"{model.name} has no trait {name!r} here. There are {', '.join(offered)}")
    return resolve_trait(model, name)


def known_trait(model: SteerableModel, vector: PersonaVector) -> Trait | None:
    """The trait a vector is of, for scoring answers; None where it goes by a name that is no trait's here."""
    offered = traits_offered(organism=is_organism(model))
    return resolve_trait(model, vector.trait) if vector.trait in offered else None


def _settings(model: SteerableModel, trait: Trait, samples: int) -> dict[str, Any]:
    return {"judge": judge_of(model, trait), "samples": samples, "sampling": Sampling(max_new_tokens=TOKENS)}
