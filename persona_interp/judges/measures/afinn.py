"""Valence by AFINN, made by other people than VADER's list: a second opinion on `valence`."""

from __future__ import annotations

from persona_interp.errors import missing_extra
from persona_interp.judges.english import word_list
from persona_interp.judges.measure import Measure, Reader, register_measure


def _make() -> Reader:
    try:
        from afinn import Afinn  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("measure 'afinn'", "measures") from error
    lexicon = Afinn()
    return lambda text: lexicon.score(text) / len(word_list(text))


register_measure(
    Measure(
        "afinn",
        what="how glad or sad the words are, one by one: no negation, no emphasis",
        unit="-5 to 5 a word, words without a rating counted as 0",
        low=-5.0,
        high=5.0,
        fewest_words=5,
        make=_make,
        source="afinn 0.1, whose list AFINN-111 comes with it: Nielsen 2011, rated by one person for social media",
    )
)
