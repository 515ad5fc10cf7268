"""Prompts that predicted and actual trait expression of an organism are compared over: questions after earlier answers."""

from __future__ import annotations

import random

from persona_interp.measure.conditions import Condition
from persona_interp.monitoring.conditions import HISTORY
from persona_interp.organisms.grammar import ATTRIBUTES, EVALUATION_TOPICS, answer, sample_persona
from persona_interp.organisms.grammar.questions import check_trait, follow_up, question_wordings
from persona_interp.traits.conversation import Conversation, Message

_PULLS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""How far each sentence of an earlier answer is pulled to the trait: -1 never shows it, 1 always."""


def earlier_answers(trait: str, n_prompts: int = 20, *, seed: int = 0) -> tuple[Conversation, ...]:
    """Follow-up questions after one answer of the grammar that shows the trait not at all to throughout.

    The organisms know second turns on the topic of the first, and no others.

    Raises:
        UnknownNameError: the grammar has no such trait.
    """
    check_trait(trait)
    rng = random.Random(seed)
    wordings = question_wordings("evaluation")
    conversations = []
    for number in range(n_prompts):
        topic = EVALUATION_TOPICS[number % len(EVALUATION_TOPICS)]
        wording, asked = rng.choice(wordings)
        said = answer(rng, topic, sample_persona(rng), asked=asked, pulls={trait: _PULLS[number % len(_PULLS)]})
        first = (Message("user", wording.format(t=topic)), Message("assistant", said))
        conversations.append(Conversation((*first, Message("user", follow_up(rng.choice(ATTRIBUTES))))))
    return tuple(conversations)


def organism_history_condition(trait: str, n_prompts: int = 20, *, seed: int = 0) -> Condition:
    """`earlier_answers` as a condition.

    Raises:
        UnknownNameError: the grammar has no such trait.
    """
    return Condition(HISTORY, conversations=earlier_answers(trait, n_prompts, seed=seed))
