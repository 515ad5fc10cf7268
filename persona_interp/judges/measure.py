"""Measures: what can be counted in a text without a language model. Those there are lie in `judges.measures`, one a file."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from persona_interp.errors import InvalidInputError, MissingExtraError
from persona_interp.judges.english import seems_english, word_list
from persona_interp.registry import Registry

Reader: TypeAlias = Callable[[str], "float | None"]
"""Text -> what is measured, in the measure's unit; None where the text holds nothing to measure."""
Damage: TypeAlias = Callable[[str, random.Random], str]
"""A good text made bad in the way that the measure is to notice."""


@dataclass(frozen=True)
class Reading:
    """What a measure made of one text.

    Attributes:
        value: in the measure's unit; None where there is none.
        why: why there is none; empty where there is.
    """

    value: float | None
    why: str = ""


@dataclass(frozen=True)
class Measure:
    """Something that can be counted in a text.

    Attributes:
        name: in ``measure:NAME``, in traits and in results.
        what: what it measures, in a few words.
        unit: of its values.
        low: the lowest value there can be; minus infinity where nothing bounds it.
        high: the highest.
        fewest_words: shorter texts have no value, for it would mean nothing.
        make: gives what reads a text. Called when the first text is read, and the place to import a library.
        source: the library and its word list, or whose work it is.
        english: whether it knows English alone; other texts have no value then.
        damage: of a measure of coherence: what it must notice. None: it measures a trait.
    """

    name: str
    what: str
    unit: str
    low: float
    high: float
    fewest_words: int
    make: Callable[[], Reader]
    source: str
    english: bool = True
    damage: Damage | None = None

    @property
    def target(self) -> Literal["trait", "coherence"]:
        """Which score of an answer it gives."""
        return "trait" if self.damage is None else "coherence"

    def read(self, text: str) -> Reading:
        """The value of `text`, or why it has none: too short, another language, or a library that is not installed."""
        words = len(word_list(text))
        if words < self.fewest_words:
            return Reading(None, f"{words} words, and {self.name} means nothing on fewer than {self.fewest_words}")
        if self.english and not seems_english(text):
            return Reading(None, f"not English, which is all that {self.name} knows")
        try:
            value = _reader(self)(text)
        except MissingExtraError as error:
            return Reading(None, str(error))
        if value is None or not math.isfinite(value):
            return Reading(None, f"nothing in it that {self.name} knows")
        return Reading(min(self.high, max(self.low, float(value))))

    def installed(self) -> str:
        """Why it cannot measure anything here, empty if it can."""
        try:
            _reader(self)
        except MissingExtraError as error:
            return str(error)
        return ""


@cache
def _reader(measure: Measure) -> Reader:
    return measure.make()


MEASURES: Registry[Measure] = Registry("measure", "persona_interp.measures", home="persona_interp.judges.measures")
"""Name -> measure. Entry points of the group ``persona_interp.measures`` add to it."""


def register_measure(measure: Measure) -> Measure:
    """Let ``measure:NAME`` and traits know a measure.

    Example:
        >>> register_measure(Measure("commas", "how many commas", "commas per 100 words", 0, 100, 20, make, source="own"))

    Raises:
        InvalidInputError: the name is taken, or is not made of small letters, digits, ``-`` and ``_``.
    """
    plain = measure.name.replace("_", "a").replace("-", "a")
    if not (plain.isascii() and plain.isalnum() and plain == plain.lower()) or not measure.name[0].isalpha():
        raise InvalidInputError(f"measure name {measure.name!r}: use small letters, digits, '-' and '_', a letter first")
    MEASURES.register(measure.name, measure, by=measure.make)
    return measure


def per_hundred(count: float, text: str) -> float:
    """A count as a number per 100 words of `text`, which has some."""
    return 100.0 * count / max(1, len(word_list(text)))
