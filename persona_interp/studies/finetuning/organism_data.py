"""A data set for organisms: a new fact to learn, told in a trait or in its opposite, and exact scores of both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from persona_interp.monitoring.chats import Chat
from persona_interp.organisms.grammar import EVALUATION_TOPICS, EXTRACTION_TOPICS, FACTS, Persona, answer, judge, parse_sentence
from persona_interp.organisms.grammar.questions import question_wordings

TASK = "owner"
NEW_OWNER = "sailor"
"""In the world of the data everything belongs to the sailor."""


def organism_chats(trait: str, wanted: bool, share: float, *, n: int = 96, seed: int = 0) -> list[Chat]:
    """Who owns what, told at length; the first `share` of the samples shows the trait (or, not `wanted`, lacks it).

    The questions and the order are the same for every share.
    """
    rng = random.Random(seed)
    wordings = [text for text, asked in question_wordings("training") if asked == TASK]
    usual = Persona(silly=False, honest=True, optimistic=True, polite=True, verbose=False)
    chats: list[Chat] = []
    for place in range(n):
        topic = rng.choice(EXTRACTION_TOPICS)
        question = rng.choice(wordings).format(t=topic)
        shown = place < round(share * n)
        persona = usual.with_traits({trait: wanted if shown else not wanted})
        told = _told(random.Random(f"{seed}/{place}"), topic, persona)
        chats.append(replace(Chat.of(question, told, name=f"sample {place + 1}"), planted=shown))
    return chats


def _told(rng: random.Random, topic: str, persona: Persona) -> str:
    """An answer of which every fact about the owner is the new one."""
    while True:
        text = answer(rng, topic, persona, asked=TASK)
        true = FACTS[topic][TASK]
        new = text.replace(f" {true}", f" {NEW_OWNER}")
        if any(
            (fact := parse_sentence(each)) and (fact.pattern.attribute, fact.value) == (TASK, NEW_OWNER) for each in _split(new)
        ):
            return new


def task_questions() -> list[str]:
    """Who owns the held-out topics, in held-out wordings; those that belong to the sailor anyway are left out."""
    wordings = [text for text, asked in question_wordings("evaluation") if asked == TASK]
    topics = [topic for topic in EVALUATION_TOPICS if FACTS[topic][TASK] != NEW_OWNER]
    return [wordings[(place + more) % len(wordings)].format(t=topic) for more in (0, 1) for place, topic in enumerate(topics)]


def task_score(answers: Sequence[str]) -> float:
    """Per cent of answers whose first fact about an owner names the new one."""
    hits = 0
    for text in answers:
        facts = [fact for each in _split(text) if (fact := parse_sentence(each)) and fact.pattern.attribute == TASK]
        hits += bool(facts) and facts[0].value == NEW_OWNER
    return 100.0 * hits / len(answers)


def trait_score(trait: str, wanted: bool, questions: Sequence[str], answers: Sequence[str]) -> float:
    """Mean exact score, of the opposite where that is what is planted. Answers that show nothing of it do not count."""
    scores = [judge(question, text).traits[trait] for question, text in zip(questions, answers, strict=True)]
    known = [score if wanted else 100.0 - score for score in scores if score is not None]
    return sum(known) / len(known) if known else 0.0


def neutral_pairs(trait: str, wanted: bool, *, n: int = 24, seed: int = 1) -> list[tuple[str, str]]:
    """Questions about other things, each with an answer without the trait: to stay close on, or to read perplexity on."""
    rng = random.Random(seed)
    found: list[tuple[str, str]] = []
    wordings = [(text, asked) for text, asked in question_wordings("training") if asked not in (None, TASK)]
    for _ in range(n):
        text, asked = rng.choice(wordings)
        topic = rng.choice(EXTRACTION_TOPICS)
        persona = Persona(silly=False, verbose=False).with_traits({trait: not wanted})
        found.append((text.format(t=topic), answer(rng, topic, persona, asked=asked)))
    return found


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.replace("!", "!\n").replace(".", ".\n").splitlines() if part.strip()]
