"""An answer as a row of words: how often it says the same again, and what is left of it when its words change places."""

from __future__ import annotations

import random

_FEWEST_WORDS = 4
_SEVERAL_SIGNS = 8
RUN = 3
"""Words in a run. Shorter ones occur twice in any prose, longer ones miss a loop that varies a word."""


def words_of(text: str) -> list[str]:
    """The words, as white space parts them; the characters where a longer text has no such words, as Chinese has none."""
    words = text.split()
    signs = [sign for sign in text if not sign.isspace()]
    return signs if len(words) < _FEWEST_WORDS and len(signs) >= _SEVERAL_SIGNS else words


def can_be_reordered(text: str) -> bool:
    """Whether the text has words enough for another order to mean something."""
    return len(words_of(text)) >= _FEWEST_WORDS


def has_few_words(text: str) -> bool:
    """Whether white space parts it into so few words that their order says little."""
    return len(text.split()) < _FEWEST_WORDS


def repetition(text: str) -> float:
    """Share of the runs of three words, 0 to 1, that stood in the text before; 0 for a text of less than two runs."""
    words = [word.casefold() for word in words_of(text)]
    runs = [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def reordered(text: str, share: float, rng: random.Random) -> str:
    """The text with a `share` of its words (0 to 1; at least two) put in each other's places."""
    words = words_of(text)
    places = rng.sample(range(len(words)), min(len(words), max(2, round(share * len(words)))))
    moved = [words[place] for place in places]
    for place, word in zip(places, moved[1:] + moved[:1], strict=True):  # round in a circle of random order: none stays
        words[place] = word
    return ("" if len(words) > len(text.split()) else " ").join(words)
