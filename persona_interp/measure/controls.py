"""Directions that an evaluation compares a vector with: random ones, and another trait's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from persona_interp.errors import InvalidInputError
from persona_interp.jsonl_store import content_key
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.model_kinds import resolve_trait, traits_of
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.run import run_settings

OTHER_QUESTIONS = 4
"""Extraction questions the vector of another trait is made from where none is given: forty answers."""

_ABOUT_TRUTH = frozenset({"honest", "hallucinating", "sycophantic", "evil"})
"""Traits of the library that say false things or forbid it: for these, "honest" is no *other* trait."""


def random_like(vector: PersonaVector, number: int, seed: int) -> PersonaVector:
    """Random directions as long as those of `vector` and at the same angles to each other, layer against layer.

    The vector is turned as a whole by a random rotation, so that at several layers a control adds up like the vector does.
    """
    generator = torch.Generator().manual_seed(derived_seed(f"{seed}/random direction {number}"))
    _, triangle = torch.linalg.qr(vector.directions.double().T)
    drawn = torch.randn(vector.d_model, triangle.shape[0], generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(drawn)
    return _control(vector, (basis @ triangle).T, f"random {number}")


def matched(other: PersonaVector, vector: PersonaVector, trait: Trait) -> PersonaVector:
    """`other` at the layers of `vector`, as long as `vector` at each of them.

    Raises:
        InvalidInputError: `other` is of `trait` or of the trait of `vector`, lacks a layer, or is zero at one.
    """
    if other.trait in (trait.name, vector.trait):
        raise InvalidInputError(
            f"the other vector is of trait {other.trait!r} too: give one of another trait, or none to have one made"
        )
    unit = other.select(vector.layers).normalised().directions
    return _control(vector, unit * vector.norms.float().unsqueeze(1), other.trait)


def _control(vector: PersonaVector, directions: torch.Tensor, name: str) -> PersonaVector:
    known = {key: values for key, values in vector.statistics.items() if key == "resid_norm"}
    return replace(
        vector, directions=directions.float(), trait=name, statistics=known, massive=(), counts={}, provenance={}, responses={}
    )


def other_trait_for(model: SteerableModel, trait: Trait, vector: PersonaVector, other: PersonaVector | None) -> Trait:
    """The trait that specificity is measured against: that of `other`, if a trait of that name is known, else a far one.

    That is "honest", unless the trait is about the truth of what is said; then "silly"; or "optimistic".
    """
    taken = {trait.name, vector.trait}
    known = traits_of(model)
    if other is not None and other.trait in known and other.trait not in taken:
        return resolve_trait(model, other.trait)
    far = [name for name in ("honest", "silly", "optimistic", *known) if name in known and name not in taken]
    return resolve_trait(model, next(name for name in far if not (name == "honest" and taken & _ABOUT_TRUTH)))


def small_vector(
    model: SteerableModel, trait: Trait, *, sampling: Sampling, seed: int, folder: Path, batch_size: int | None
) -> PersonaVector:
    """A vector of `trait` from few answers and without a filter: a direction that means something, for comparison only.

    Raises:
        PersonaInterpError: no pair of answers could be read.
    """
    questions = trait.extraction_questions[:OTHER_QUESTIONS]
    say(f"no other vector was given: one for {trait.name!r} is made from few answers, to compare with")
    key = content_key(run_settings(model, trait, questions, sampling, seed, None))
    return extract(
        model,
        trait,
        samples=1,
        questions=questions,
        sampling=sampling,
        seed=seed,
        folder=folder / f"{trait.name}-{key[:12]}",
        minimum_pairs=1,
        batch_size=batch_size,
    )
