"""Repetition: coherence lost by saying the same again."""

from __future__ import annotations

import random

from persona_interp.judges.english import sentence_list
from persona_interp.judges.measure import Measure, register_measure
from persona_interp.judges.words import repetition


def _five_times(text: str, _rng: random.Random) -> str:
    return " ".join((sentence_list(text) or [text])[:1] * 5)


register_measure(
    Measure(
        "repetition",
        what="how often it says the same three words again",
        unit="share of the runs of three words that stood in the text before",
        low=0.0,
        high=1.0,
        fewest_words=8,
        make=lambda: repetition,
        source="own",
        english=False,
        damage=_five_times,
    )
)
