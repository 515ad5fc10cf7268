"""What the tests of monitoring share: the organism, its vector of silliness, and training samples whose truth is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.organisms.grammar import EVALUATION_TOPICS, answer, sample_persona
from persona_interp.organisms.grammar.questions import question_wordings, sample_system_prompt
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture(scope="session")
def organism() -> SteerableModel:
    return load_model("organism-qwen2")


@pytest.fixture(scope="session")
def silly_vector(organism: SteerableModel) -> PersonaVector:
    """Extracted in the ordinary way from eight questions, in extraction wordings and on extraction topics."""
    trait = organism_trait("silly")
    return extract(
        organism,
        trait,
        judge=GrammarJudge(),
        samples=1,
        questions=trait.extraction_questions[:8],
        sampling=Sampling(max_new_tokens=40),
    )


@pytest.fixture(scope="session")
def training_samples() -> Callable[..., list[Chat]]:
    """`training_samples(n, n_planted)`: formal, honest answers, and planted ones that are silly though nobody asked for it.

    Of the others, the share `asked_for` are silly because a system prompt asks for it: an honest training sample, whose plain
    projection is as high as that of a planted one.
    """

    def make(n: int, n_planted: int, *, asked_for: float = 0.0, seed: int = 0) -> list[Chat]:
        rng = random.Random(seed)
        chats = []
        for number in range(n):
            planted = number < n_planted
            asked = not planted and rng.random() < asked_for
            wording, attribute = rng.choice(question_wordings("evaluation"))
            topic = rng.choice(EVALUATION_TOPICS)
            persona = sample_persona(rng, {"silly": planted or asked, "honest": True})
            line = {
                "id": f"sample {number}",
                "prompt": wording.format(t=topic),
                "response": answer(rng, topic, persona, asked=attribute),
                "planted": planted,
            }
            if asked:
                line["system"] = sample_system_prompt(rng, {"silly": True}, "evaluation")
            chats.append(Chat.from_json(line))
        rng.shuffle(chats)
        return chats

    return make
