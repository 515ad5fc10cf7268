"""`Condition`: what is compared. Every one asks the same questions, and differs in what is added or said before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from persona_interp.measure.protocol import Asked
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait
from persona_interp.vectors.steering import Steering, Together


@dataclass(frozen=True, eq=False)
class Condition:
    """One way of answering the questions: plain, steered, prompted, or with other sampling.

    Attributes:
        name: what it is, for a person reading the log: ``silly``, ``random 1``, ``baseline``.
        steering: what is done to the model; None: nothing.
        systems: system prompts taken in turn; empty: none.
        sampling: how answers are drawn; None: as the protocol says.
        conversations: answered instead of the protocol's questions, once each.
        seeds: of the answers, one a row; None: the protocol's.
    """

    name: str
    steering: Steering | Together | None = None
    systems: tuple[str, ...] = ()
    sampling: Sampling | None = None
    conversations: tuple[Conversation, ...] | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def coefficient(self) -> float:
        """Of the steering; 0 where there is none."""
        return 0.0 if self.steering is None else self.steering.coefficient

    def rows(self, asked: Asked) -> list[tuple[Conversation, int]]:
        """(conversation, seed) of every answer. Question i, sample s is under system prompt i + s."""
        conversations = self.conversations
        if conversations is None:
            systems: Sequence[str | None] = self.systems or (None,)
            conversations = tuple(
                Conversation.ask(question, systems[(number + sample) % len(systems)])
                for number, question in enumerate(asked.questions)
                for sample in range(asked.samples)
            )
        return list(zip(conversations, asked.seeds if self.seeds is None else self.seeds, strict=True))


def baseline(steering: Steering | None = None, *, systems: tuple[str, ...] = ()) -> Condition:
    """The unsteered model; `steering` says in whose unit its perturbation ratio of 0 is."""
    return Condition("baseline", None if steering is None else steering.at(0.0), systems)


def steered(name: str, steering: Steering, coefficients: Sequence[float], *, systems: tuple[str, ...] = ()) -> list[Condition]:
    """One condition a coefficient."""
    return [Condition(name, each, systems) for each in steering.over(coefficients)]


def prompted(trait: Trait, steering: Steering | None = None) -> tuple[Condition, Condition]:
    """The trait asked for, and asked against, by its own system prompts and without steering; see `baseline`."""
    nothing = None if steering is None else steering.at(0.0)
    positive = Condition("prompted", nothing, tuple(pair.positive for pair in trait.instructions))
    return positive, Condition("prompted against", nothing, tuple(pair.negative for pair in trait.instructions))
