"""The prompts that predicted and actual trait expression are compared over: conditions from against a trait to for it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.jsonl_store import content_key
from persona_interp.measure.conditions import Condition
from persona_interp.traits.conversation import Conversation, Message
from persona_interp.traits.trait import InstructionPair

UNPROMPTED = "no system prompt"
HISTORY = "after earlier answers"
_NAME_LENGTH = 60


def system_prompt_conditions(questions: Sequence[str], instructions: Sequence[InstructionPair]) -> list[Condition]:
    """Each question under each negative system prompt, under none, and under each positive one.

    Raises:
        InvalidInputError: there is no question.
    """
    if not questions:
        raise InvalidInputError("there are no questions to ask: give at least one")
    systems = [(f"against {n}", pair.negative) for n, pair in enumerate(instructions, start=1)]
    systems += [(UNPROMPTED, None)]
    systems += [(f"for {n}", pair.positive) for n, pair in enumerate(instructions, start=1)]
    return [
        Condition(name, conversations=tuple(Conversation.ask(question, system) for question in questions))
        for name, system in systems
    ]


def history_condition(
    questions: Sequence[str], responses: Mapping[str, Any], *, shots: int = 2, seed: int = 0
) -> Condition | None:
    """Each question after earlier exchanges, none to all of which show the trait, and no system prompt.

    Within this one condition prompts differ in how much of the trait has been shown already, as in many-shot prompting.

    Args:
        questions: asked last.
        responses: a vector's ``responses``: its positive and negative answers are the earlier exchanges.
        shots: how many exchanges.
        seed: chooses and orders them.

    Returns:
        The condition; None where the vector has too few answers to make one.
    """
    kinds = [[each for each in responses.get(sign, ()) if each.get("response")] for sign in ("negative", "positive")]
    if min(map(len, kinds)) < shots:
        return None
    rng = random.Random(seed)
    conversations = []
    for number, question in enumerate(questions):
        n_positive = number % (shots + 1)
        earlier = rng.sample(kinds[1], n_positive) + rng.sample(kinds[0], shots - n_positive)
        rng.shuffle(earlier)
        said = [
            message
            for each in earlier
            for message in (Message("user", str(each["question"])), Message("assistant", str(each["response"])))
        ]
        conversations.append(Conversation((*said, Message("user", question))))
    return Condition(HISTORY, conversations=tuple(conversations))


def conditions_by_system_prompt(conversations: Sequence[Conversation]) -> list[Condition]:
    """Prompts of one's own: those with the same system prompt are one condition."""
    found: dict[str | None, list[Conversation]] = {}
    for conversation in conversations:
        found.setdefault(conversation.system, []).append(conversation)
    return [Condition(_named(system), conversations=tuple(group)) for system, group in found.items()]


def _named(system: str | None) -> str:
    if system is None:
        return UNPROMPTED
    flat = " ".join(system.split())
    return flat if len(flat) <= _NAME_LENGTH else f"{flat[: _NAME_LENGTH - 13]}...{content_key(system)[:10]}"
