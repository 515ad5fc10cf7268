"""Valence by VADER: how glad or sad the words are."""

from __future__ import annotations

from statistics import fmean

from persona_interp.errors import missing_extra
from persona_interp.judges.english import sentence_list
from persona_interp.judges.measure import Measure, Reader, register_measure


def _make() -> Reader:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("measure 'valence'", "measures") from error
    analyzer = SentimentIntensityAnalyzer()

    def read(text: str) -> float:
        # over whole answers its score runs to +-1 with length, so its authors' advice is followed: sentence by sentence
        return fmean(analyzer.polarity_scores(sentence)["compound"] for sentence in sentence_list(text))

    return read


register_measure(
    Measure(
        "valence",
        what="how glad or sad the words are, negations and emphasis considered; mean over sentences",
        unit="-1 to 1, 0 where no word has a feeling",
        low=-1.0,
        high=1.0,
        fewest_words=5,
        make=_make,
        source="vaderSentiment 3.3 (MIT), whose lexicon is in its wheel: Hutto & Gilbert 2014, rated by people for social media",
    )
)
