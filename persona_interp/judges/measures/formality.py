"""Formality by shares of parts of speech."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from persona_interp.errors import missing_extra
from persona_interp.judges.measure import Measure, Reader, register_measure

_WRITTEN_OUT = (
    (re.compile(r"n't\b", re.IGNORECASE), " not"),
    (re.compile(r"'ve\b", re.IGNORECASE), " have"),
    (re.compile(r"'re\b", re.IGNORECASE), " are"),
    (re.compile(r"'ll\b", re.IGNORECASE), " will"),
    (re.compile(r"'m\b", re.IGNORECASE), " am"),
    (re.compile(r"'d\b", re.IGNORECASE), " would"),
    (re.compile(r"'s\b", re.IGNORECASE), ""),
)
"""The tagger takes the pieces of a contraction for nouns."""
_SIDES: Mapping[str, int] = {
    "NN": 1, "NNS": 1, "NNP": 1, "NNPS": 1, "JJ": 1, "JJR": 1, "JJS": 1, "IN": 1, "DT": 1,
    "PRP": -1, "PRP$": -1, "WP": -1, "VB": -1, "VBD": -1, "VBG": -1, "VBN": -1, "VBP": -1, "VBZ": -1, "MD": -1,
    "RB": -1, "RBR": -1, "RBS": -1, "UH": -1,
}  # fmt: skip


def _make() -> Reader:
    try:
        from textblob.en.taggers import PatternTagger  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("measure 'formality'", "measures") from error
    tagger = PatternTagger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file of its lexicon open
        tagger.tag("This loads the lexicon.")

    def read(text: str) -> float | None:
        plain = text.replace("’", "'")
        for pattern, written in _WRITTEN_OUT:
            plain = pattern.sub(written, plain)
        tags = [tag for word, tag in tagger.tag(plain) if any(sign.isalnum() for sign in word)]
        return 50.0 + 50.0 * sum(_SIDES.get(tag, 0) for tag in tags) / len(tags) if tags else None

    return read


register_measure(
    Measure(
        "formality",
        what="nouns, adjectives, prepositions and articles (formal) against pronouns, verbs, adverbs and interjections (not)",
        unit="0 to 100; conversations about 40, newspapers about 65; a list of catchwords counts as very formal",
        low=0.0,
        high=100.0,
        fewest_words=20,
        make=_make,
        source="F-score of Heylighen & Dewaele 1999; parts of speech by textblob 0.20 (MIT), whose lexicon is in its wheel",
    )
)
