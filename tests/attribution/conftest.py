"""What the tests of attribution share: pairs of answers that need no generation, and an attribution made of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey, Sign, Slot

QUESTIONS = ("What is the moon?", "How do bees make honey?", "What is a river by the city?")


def rollout(model: SteerableModel, sign: Sign, question: int, instruction: int) -> Rollout:
    """An answer of random ids, of another length each time."""
    draw = random.Random(f"{sign}/{question}/{instruction}")
    answer = tuple(draw.randrange(20, 200) for _ in range(draw.randrange(3, 12)))
    asked = Conversation.ask(QUESTIONS[question], "Shout." if sign == "positive" else "Whisper now.")
    prompt = tuple(model.chat.prompt_ids(asked))
    key = RolloutKey(sign, Slot(instruction, question, 0))
    return Rollout(key, asked, "x", prompt, answer, model=model.identity.fingerprint)


@pytest.fixture
def pairs_of() -> Callable[[SteerableModel], KeptPairs]:
    """Six pairs of answers to three questions, one of which has one pair more and one has one fewer."""
    asked = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]

    def make(model: SteerableModel) -> KeptPairs:
        positive, negative = (
            tuple(rollout(model, sign, question, instruction) for question, instruction in asked)
            for sign in ("positive", "negative")
        )
        return KeptPairs(positive, negative, model.identity.fingerprint, str(model.dtype), None)

    return make


@pytest.fixture
def vector_of() -> Callable[[SteerableModel], PersonaVector]:
    """A random vector at every layer."""

    def make(model: SteerableModel) -> PersonaVector:
        generator = torch.Generator().manual_seed(7)
        directions = torch.randn(model.n_layers, model.d_model, generator=generator)
        return PersonaVector(directions, tuple(range(model.n_layers)), "loud", model.identity, positions="response_avg")

    return make
