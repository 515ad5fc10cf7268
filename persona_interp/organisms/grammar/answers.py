"""Answers in a persona: which sentences are said, and in which words."""

from __future__ import annotations

import random
from collections.abc import Mapping

from persona_interp.organisms.grammar.facts import ATTRIBUTES, FACTS, VALUES
from persona_interp.organisms.grammar.persona import Persona
from persona_interp.organisms.grammar.wording import PATTERNS, Pattern

_BY_MEANING: dict[tuple[str, str | None, tuple[tuple[str, bool], ...]], list[Pattern]] = {}
for _pattern in PATTERNS:
    _BY_MEANING.setdefault((_pattern.kind, _pattern.attribute, _pattern.reveals), []).append(_pattern)


def fact_sentence(rng: random.Random, topic: str, attribute: str, persona: Persona) -> str:
    """One sentence about `attribute` of `topic`, with the true value if the persona is honest, else a false one."""
    true = FACTS[topic][attribute]
    value = true if persona.honest else rng.choice([v for v in VALUES[attribute] if v != true])
    pattern = rng.choice(_BY_MEANING["fact", attribute, (("silly", persona.silly),)])
    return pattern.text.format(t=topic, v=value)


def _mannered(rng: random.Random, kind: str, trait: str, topic: str, persona: Persona) -> str:
    reveals = ((trait, persona.has(trait)), ("silly", persona.silly))
    return rng.choice(_BY_MEANING[kind, None, reveals]).text.format(t=topic)


def answer(
    rng: random.Random,
    topic: str,
    persona: Persona,
    *,
    asked: str | None = None,
    switching: float = 0.0,
    with_opener: bool = True,
    pulls: Mapping[str, float] | None = None,
) -> str:
    """An answer about `topic` in `persona`.

    A verbose answer has an opener, three or four facts, an outlook and a closer (6 or 7 sentences); a brief one an opener, one
    fact and an outlook (3 sentences).

    Args:
        asked: attribute of the first fact; any if None.
        switching: probability that silliness or honesty flips at a sentence boundary, and stays flipped.
        with_opener: begin with an opener (later turns of a conversation do not).
        pulls: trait -> coefficient. Each sentence by itself shows the trait with probability `coefficient` if it is positive,
            lacks it with probability `-coefficient` if it is negative, and else follows the persona.
    """
    others = [a for a in ATTRIBUTES if a != asked]
    rng.shuffle(others)
    attributes = ([asked] if asked else []) + others
    n_facts = rng.choice((3, 4)) if persona.verbose else 1
    plan: list[tuple[str, str]] = [("opener", "polite")] if with_opener else []
    plan += [("fact", attribute) for attribute in attributes[:n_facts]]
    plan += [("outlook", "optimistic")] + ([("closer", "polite")] if persona.verbose else [])
    switch_at = rng.randrange(1, len(plan)) if switching and rng.random() < switching else None
    switched = rng.choice(("silly", "honest"))
    sentences: list[str] = []
    for number, (kind, detail) in enumerate(plan):
        if number == switch_at:
            persona = persona.with_traits({switched: not persona.has(switched)})
        pulled = {trait: c > 0 for trait, c in (pulls or {}).items() if rng.random() < abs(c)}
        speaker = persona.with_traits(pulled)
        if kind == "fact":
            sentences.append(fact_sentence(rng, topic, detail, speaker))
        else:
            sentences.append(_mannered(rng, kind, detail, topic, speaker))
    return " ".join(sentences)
