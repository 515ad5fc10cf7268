"""The conditions of an evaluation: every one asks the same questions, and differs in what is added or said before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.sampling import derived_seed
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

Positions = Literal["all", "prompt", "response"]


@dataclass(frozen=True)
class Asked:
    """The questions, how often each is asked, and the random streams of the answers.

    The stream of an answer depends on the seed, its question and its number alone, so that conditions are compared on paired
    answers, and more questions or samples change none of the answers there are.
    """

    questions: tuple[str, ...]
    samples: int
    seed: int

    @property
    def rows(self) -> list[tuple[str, int]]:
        """(question, number of the sample), all samples of the first question first."""
        return [(question, sample) for question in self.questions for sample in range(self.samples)]

    @property
    def seeds(self) -> list[int]:
        """One for each of `rows`."""
        return [derived_seed(f"{self.seed}/{question}/{sample}") for question, sample in self.rows]


@dataclass(frozen=True, eq=False)
class Arm:
    """One condition.

    Attributes:
        name: what it is, for a person reading the log: ``silly``, ``random 1``, ``baseline``.
        coefficient: multiplies `vector`; 0 where nothing is added.
        vector: what is added, at its layers; None: nothing.
        systems: system prompts taken in turn; empty: none.
    """

    name: str
    coefficient: float = 0.0
    vector: PersonaVector | None = None
    systems: tuple[str, ...] = ()

    def conversations(self, asked: Asked) -> list[Conversation]:
        """One for each of ``asked.rows``. Question i, sample s is under system prompt i + s."""
        systems: Sequence[str | None] = self.systems or (None,)
        return [
            Conversation.ask(question, systems[(number + sample) % len(systems)])
            for number, question in enumerate(asked.questions)
            for sample in range(asked.samples)
        ]

    def graph(self, rows: Sequence[int], positions: Positions) -> InterventionGraph:
        """What is written into some rows of a call."""
        if self.vector is None or not rows:
            return InterventionGraph()
        return self.vector.graph(self.coefficient, positions=positions, rows=rows)

    def write_key(self, positions: Positions) -> list[Any] | None:
        """What `graph` depends on besides the rows, as JSON values; None where nothing is written."""
        if self.vector is None:
            return None
        digest = hashlib.sha256(self.vector.directions.numpy().tobytes()).hexdigest()
        return [digest, list(self.vector.layers), self.coefficient, positions]


def steered_arms(name: str, vector: PersonaVector, coefficients: Sequence[float]) -> list[Arm]:
    """One arm a coefficient; at 0 nothing is added."""
    return [Arm(name, c, vector if c != 0 else None) for c in coefficients]


def prompted_arms(trait: Trait) -> tuple[Arm, Arm]:
    """The trait asked for, and asked against, by its own system prompts and without steering."""
    positive = Arm("prompted", systems=tuple(pair.positive for pair in trait.instructions))
    return positive, Arm("prompted against", systems=tuple(pair.negative for pair in trait.instructions))
