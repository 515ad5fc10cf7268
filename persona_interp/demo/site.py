"""What the page stands on: models, sessions, and the vector meant by what a visitor chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from persona_interp.demo.jobs import Job
from persona_interp.demo.sessions import Held, Session, Sessions
from persona_interp.demo.shelf import Shelf
from persona_interp.demo.trait_vectors import kept_vector, known_trait, trait_called, trait_vector, traits_offered
from persona_interp.errors import InvalidInputError
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import names_organism
from persona_interp.vectors.persona_vector import PersonaVector

TRAIT, VECTOR = "trait:", "vector:"
"""What the value of a choice begins with, before the name of a trait or the label of a session's vector."""


class Site:
    """Everything behind the page.

    Args:
        shelf: the models.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.sessions = Sessions()

    def choices(self, session: Session | None, model: str) -> list[tuple[str, str]]:
        """What can be chosen for a model: (words, value). The session's own vectors come first; the model need not be loaded."""
        organism = names_organism(self.shelf.source(model))
        traits = [(name, f"{TRAIT}{name}") for name in traits_offered(organism=organism)]
        own = [] if session is None else session.labels(model)
        return [*((label, f"{VECTOR}{label}") for label in own), *traits]

    def known_vector(self, session: Session, model: SteerableModel, choice: object) -> PersonaVector | None:
        """The vector of a choice, if it is there already."""
        kind, name = _parsed(choice)
        if kind == VECTOR:
            return session.held(name, model.name).vector
        return kept_vector(model, trait_called(model, name))

    def vector(self, job: Job[Any], session: Session, model: SteerableModel, choice: object) -> Held:
        """The vector of a choice, extracted if need be.

        Raises:
            UnknownNameError: there is no such trait or vector.
            IncompatibleError: the vector is of another model.
            PersonaInterpError: as `extract`.
        """
        kind, name = _parsed(choice)
        if kind == VECTOR:
            held = session.held(name, model.name)
            held.vector.check_fits(model.identity)
            return replace(held, trait=held.trait or known_trait(model, held.vector))
        trait = trait_called(model, name)
        return Held(trait_vector(job, model, trait), model.name, trait)

    def close(self) -> None:
        """End every session and free every model."""
        self.sessions.close()
        self.shelf.close()


def _parsed(choice: object) -> tuple[str, str]:
    for kind in (TRAIT, VECTOR):
        if isinstance(choice, str) and choice.startswith(kind):
            return kind, choice.removeprefix(kind)
    raise InvalidInputError("no trait or vector is chosen: choose one from the list")
