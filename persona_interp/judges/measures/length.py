"""Length in words."""

from __future__ import annotations

from persona_interp.judges.measure import Measure, register_measure
from persona_interp.judges.words import words_of

register_measure(
    Measure(
        "length",
        what="how long it is; an answer cut off by a limit of tokens is at least that long",
        unit="words (characters of a script without spaces)",
        low=0.0,
        high=float("inf"),
        fewest_words=0,
        make=lambda: lambda text: float(len(words_of(text))),
        source="own",
        english=False,
    )
)
