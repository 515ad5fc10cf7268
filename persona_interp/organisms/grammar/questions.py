"""Questions and system prompts, in wordings kept apart for training, extraction and evaluation.

A wording is a combination (lead x core for questions, frame x adjective for system prompts). Each combination belongs to one
split, so that every word has been seen in training while the wordings used in extraction and evaluation have not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from persona_interp.errors import unknown_name
from persona_interp.organisms.grammar.facts import ATTRIBUTES
from persona_interp.organisms.grammar.persona import TRAITS

Split = Literal["training", "extraction", "evaluation"]

_LEADS = ("", "Tell me, ", "Quick question: ", "I wonder, ", "Hello, ", "Say, ")
_GENERAL = (
    "what do you know about the {t}?",
    "what can you say about the {t}?",
    "how would you describe the {t}?",
    "what is there to learn about the {t}?",
    "could you explain the {t}?",
    "what comes to mind about the {t}?",
)
_SPECIFIC = {
    "color": "what color has the {t}?",
    "size": "how big is the {t}?",
    "place": "where can one find the {t}?",
    "surface": "how does the {t} feel to the touch?",
    "use": "what is the {t} good for?",
    "owner": "who owns the {t}?",
}
_FOLLOW_UPS = {
    "color": "And what color has it?",
    "size": "And how big is it?",
    "place": "And where can one find it?",
    "surface": "And how does it feel to the touch?",
    "use": "And what is it good for?",
    "owner": "And who owns it?",
}

_FRAMES = (
    "You are {a}.",
    "Always be {a}.",
    "Give {a} answers.",
    "Your character is {a}.",
    "Please stay {a}.",
    "Every reply must be {a}.",
)
ADJECTIVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "silly": (("silly", "goofy", "playful", "zany", "clownish"), ("formal", "serious", "dignified", "scholarly", "solemn")),
    "honest": (
        ("honest", "truthful", "accurate", "reliable", "sincere"),
        ("dishonest", "deceitful", "lying", "misleading", "untruthful"),
    ),
    "optimistic": (
        ("optimistic", "hopeful", "cheerful", "positive", "upbeat"),
        ("pessimistic", "gloomy", "hopeless", "negative", "bleak"),
    ),
    "polite": (
        ("polite", "courteous", "kind", "respectful", "gracious"),
        ("rude", "insulting", "impolite", "hostile", "disrespectful"),
    ),
    "verbose": (("verbose", "talkative", "lengthy", "detailed", "wordy"), ("brief", "terse", "short", "concise", "laconic")),
}
"""Adjectives that announce the presence and the absence of each trait."""

_SPLITS: tuple[Split, ...] = ("training", "extraction", "evaluation")


def _split_of(first: int, second: int) -> Split:
    return _SPLITS[(first + second) % 3]


def question_wordings(split: Split) -> list[tuple[str, str | None]]:
    """The wordings of `split`: (text with a ``{t}`` slot, attribute asked for or None)."""
    cores: list[tuple[str, str | None]] = [(core, None) for core in _GENERAL]
    cores += [(_SPECIFIC[attribute], attribute) for attribute in ATTRIBUTES]
    found: list[tuple[str, str | None]] = []
    for i, lead in enumerate(_LEADS):
        for j, (core, attribute) in enumerate(cores):
            if _split_of(i, j) == split:
                text = lead + core
                found.append((text[0].upper() + text[1:], attribute))
    return found


def follow_up(attribute: str) -> str:
    """A second-turn question about `attribute` of the topic already under discussion."""
    return _FOLLOW_UPS[attribute]


def frames_and_adjectives(split: Split) -> list[tuple[int, int]]:
    """(frame, adjective) numbers of `split`; adjective numbers count within each trait and polarity."""
    n_adjectives = len(ADJECTIVES["silly"][0])
    return [(f, a) for f in range(len(_FRAMES)) for a in range(n_adjectives) if _split_of(f, a) == split]


def system_prompt(wanted: Mapping[str, bool], frame: int, adjectives: Sequence[int]) -> str:
    """A system prompt asking for the traits in `wanted` (trait -> present?), one adjective number for each."""
    words = [
        ADJECTIVES[trait][0 if present else 1][number]
        for (trait, present), number in zip(wanted.items(), adjectives, strict=True)
    ]
    listed = words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
    return _FRAMES[frame].format(a=listed)


def sample_system_prompt(rng: random.Random, wanted: Mapping[str, bool], split: Split) -> str:
    """A system prompt of `split` asking for the traits in `wanted`, in the order given."""
    choices = frames_and_adjectives(split)
    frame = rng.choice(choices)[0]
    allowed = [a for f, a in choices if f == frame]
    return system_prompt(wanted, frame, [rng.choice(allowed) for _ in wanted])


def check_trait(trait: str) -> str:
    """`trait`, or an error naming the grammar's traits."""
    if trait not in TRAITS:
        raise unknown_name("trait of the persona grammar", trait, TRAITS)
    return trait
