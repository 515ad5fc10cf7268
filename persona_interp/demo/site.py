"""What the page stands on: models, sessions, and the vector meant by what a visitor chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from persona_interp.demo.jobs import Job, wait_for_steps
from persona_interp.demo.sessions import Held, Session, Sessions
from persona_interp.demo.shelf import Shelf
from persona_interp.demo.trait_vectors import (
    first_vector,
    is_refined,
    kept_vector,
    known_trait,
    refine,
    trait_called,
    traits_offered,
    with_norms,
)
from persona_interp.errors import InvalidInputError
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import names_organism
from persona_interp.vectors.persona_vector import PersonaVector

TRAIT, VECTOR = "trait:", "vector:"
"""What the value of a choice begins with, before the name of a trait or the label of a session's vector."""


REFINING = "refining"
"""Where in a session the job runs that refines a vector."""
QUESTIONS = ("What do you like to do on a quiet day?", "What do you know about the bicycle?")
_PATIENCE = 30.0
"""Seconds that steps under way have at the end."""
N_NORMS = 4
"""Questions whose answers say how long residuals are, for vectors whose files do not; `QUESTIONS` where no trait is known."""


class Site:
    """Everything behind the page.

    Attributes:
        shows_paths: whether commands may name files by where they lie on this machine; else by their names alone.

    Args:
        shelf: the models.
        engine: what they were asked to be run by; None: what opens them.
    """

    def __init__(self, shelf: Shelf, *, engine: str | None = None, shows_paths: bool = True) -> None:
        self.shelf, self.engine, self.shows_paths = shelf, engine, shows_paths
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
        """The vector of a choice: of a trait what there is of it, or a first one, made now.

        Raises:
            UnknownNameError: there is no such trait or vector.
            IncompatibleError: the vector is of another model.
            PersonaInterpError: as `extract`.
        """
        kind, name = _parsed(choice)
        if kind == VECTOR:
            held = session.held(name, model.name)
            held.vector.check_fits(model.identity)
            trait = held.trait or known_trait(model, held.vector)
            vector = with_norms(model, held.vector, QUESTIONS if trait is None else trait.extraction_questions[:N_NORMS])
            return replace(held, vector=vector, trait=trait)
        trait = trait_called(model, name)
        return Held(first_vector(job, model, trait), model.name, trait)

    def begin_refining(self, session: Session, model: SteerableModel, choice: object) -> bool:
        """Have the vector of a trait refined in the background, if that is worth while; whether it is under way now.

        A session refines one at a time: what another had made until then is kept.
        """
        kind, name = _parsed(choice)
        if kind == VECTOR:
            return False
        running = session.job(REFINING)
        if running is not None and running.running and session.refines == (model.name, name):
            return True
        trait = trait_called(model, name)
        kept = kept_vector(model, trait)
        if kept is not None and is_refined(kept):
            return False

        def work(job: Job[PersonaVector]) -> None:
            job.show(refine(model, trait))

        session.refines = (model.name, name)
        session.start(REFINING, work)
        return True

    def close(self) -> None:
        """End every session and free every model."""
        self.sessions.close()
        wait_for_steps(_PATIENCE)
        self.shelf.close()


def _parsed(choice: object) -> tuple[str, str]:
    for kind in (TRAIT, VECTOR):
        if isinstance(choice, str) and choice.startswith(kind):
            return kind, choice.removeprefix(kind)
    raise InvalidInputError("no trait or vector is chosen: choose one from the list")
