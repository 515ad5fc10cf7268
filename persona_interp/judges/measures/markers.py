"""Hedging and politeness: markers of both, in lists of our own.

The classes are those of the literature (hedges and boosters: Hyland, *Metadiscourse*, 2005; strategies of politeness: Brown &
Levinson 1987, Danescu-Niculescu-Mizil et al. 2013); which words stand for them was chosen and written down here, for answers of
chat models. Nobody rated them.
"""

from __future__ import annotations

import re

from persona_interp.judges.measure import Measure, Reader, per_hundred, register_measure

HEDGES = (
    "maybe", "perhaps", "possibly", "probably", "presumably", "apparently", "seemingly", "arguably", "roughly", "approximately",
    "somewhat", "fairly", "largely", "generally", "usually", "typically", "often", "sometimes", "occasionally",
    "may", "might", "could", "can be", "would suggest", "seem", "seems", "seemed", "appear to", "appears to", "tend to",
    "tends to", "suggest", "suggests", "likely", "unlikely", "uncertain", "unclear", "it depends", "depends on", "i think",
    "i believe", "i guess", "i suppose", "i'm not sure", "i am not sure", "i don't know", "as far as i know", "in my opinion",
    "in some cases", "in general", "more or less", "kind of", "sort of", "to some extent", "potentially",
)  # fmt: skip
COURTESIES = (
    "please", "thank you", "thanks", "sorry", "apologies", "apologize", "i'm afraid", "excuse me", "pardon", "welcome",
    "you're welcome", "glad to", "happy to", "pleased to", "my pleasure", "of course", "certainly", "would you", "could you",
    "may i", "might i", "if you like", "if you'd like", "if you wish", "feel free", "let me know", "i hope", "hope this helps",
    "i understand", "i appreciate", "appreciate", "grateful", "kindly", "dear", "sir", "madam", "hello", "good morning",
    "best regards", "sincerely", "take care", "good question", "great question", "i'd be", "i would be", "respectfully",
)  # fmt: skip


def _counter(phrases: tuple[str, ...]) -> Reader:
    longest_first = sorted(phrases, key=len, reverse=True)
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)
    return lambda text: per_hundred(len(pattern.findall(text.replace("’", "'"))), text)


register_measure(
    Measure(
        "hedging",
        what="how often it hedges: maybe, tends to, I think",
        unit="markers per 100 words",
        low=0.0,
        high=100.0,
        fewest_words=20,
        make=lambda: _counter(HEDGES),
        source="own list, see the file",
    )
)
register_measure(
    Measure(
        "politeness",
        what="markers of courtesy: please, thank you, would you, happy to",
        unit="markers per 100 words",
        low=0.0,
        high=100.0,
        fewest_words=10,
        make=lambda: _counter(COURTESIES),
        source="own list, see the file",
    )
)
