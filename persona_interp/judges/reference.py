"""What a model's own unsteered answers look like to itself, whole and damaged: the yardstick of coherence and of the guard.

Nothing here is a number that suits one model. How unlikely an answer may be, and how often it may repeat itself, is read off the
model's own answers; how unlikely it is once its words make no sense, off the same answers with their words put out of order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np

from persona_interp.judges.surprise import surprises
from persona_interp.judges.words import can_be_reordered, reordered, repetition
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait

N_ANSWERS = 32
SAMPLING = Sampling()
SEED = 20_250_729
DAMAGE = (0.125, 0.25, 0.5, 1.0)
"""Shares of the words that change places."""
FAILED = 20.0
"""No text as unlikely as words in random order scores more."""
_FEWEST = 8
_TOLD = 0.9
_USUAL = 0.95


@dataclass(frozen=True)
class Reference:
    """Measurements of a model's own answers, each taken by that model, unsteered.

    Attributes:
        surprise: of each answer, in nats a token.
        damaged: the same for each of `DAMAGE`, of the answers with that share of their words out of place.
        repetition: of each answer, 0 to 1, see `words.repetition`.
    """

    surprise: tuple[float, ...]
    damaged: tuple[tuple[float, ...], ...]
    repetition: tuple[float, ...]

    @property
    def tells(self) -> bool:
        """Whether the model knows its answers from the same words in another order. Without that, likelihood says nothing."""
        if len(self.surprise) < _FEWEST:
            return False
        worse = np.mean([shuffled > own for own, shuffled in zip(self.surprise, self.damaged[-1], strict=True)])
        return bool(worse >= _TOLD and np.median(self.surprise) < self.nonsense)

    @property
    def nonsense(self) -> float:
        """Surprise that words in random order seldom (5 %) stay below."""
        return float(np.quantile(self.damaged[-1], 1 - _USUAL))

    @property
    def usual(self) -> float:
        """Surprise that 95 % of own answers stay below (where that overlaps with nonsense: half way from their median to it)."""
        half_way = (float(np.median(self.surprise)) + self.nonsense) / 2
        return min(float(np.quantile(self.surprise, _USUAL)), half_way)

    @property
    def gain(self) -> float:
        """How much likelier an own answer is than its words in random order: median, in nats a token."""
        return float(np.median(np.subtract(self.damaged[-1], self.surprise)))

    @property
    def usual_repetition(self) -> float:
        """Repetition that 95 % of own answers stay below; 0 where there are none."""
        return float(np.quantile(self.repetition, _USUAL)) if self.repetition else 0.0

    def order_score(self, surprise: float) -> float:
        """0-100 for an answer of that surprise: the share of neighbouring words that seem to belong together.

        100 up to the surprise of 95 % of own answers; 77, 56 and 25 at the median surprise of own answers with an eighth, a
        quarter and half of their words out of place, because of (1 - share) squared of all pairs both words are where they
        were; 20 where words in random order begin (their lowest 5 %), 0 from their median on; linear in between.
        """
        marks = [(float(np.median(self.damaged[-1])), 0.0), (self.nonsense, FAILED)]
        for share, values in reversed(list(zip(DAMAGE[:-1], self.damaged[:-1], strict=True))):
            marks.append((float(np.median(values)), 100 * (1 - share) ** 2))
        kept = marks[:1]
        for mark in marks[1:]:
            if self.usual < mark[0] < kept[-1][0]:
                kept.append(mark)
        kept.append((self.usual, 100.0))
        places, scores = zip(*reversed(kept), strict=True)
        return float(np.interp(surprise, places, scores))

    def variety_score(self, repeated: float) -> float:
        """0-100 for an answer of that repetition: 100 up to what 95 % of own answers reach, then down in proportion, 0 at 1."""
        room = 1 - self.usual_repetition
        return 100.0 if room <= 0 else 100 * min(1.0, (1 - repeated) / room)


_KNOWN: WeakKeyDictionary[SteerableModel, dict[tuple[str, ...], Reference]] = WeakKeyDictionary()


def reference_of(model: SteerableModel, trait: Trait) -> Reference:
    """The reference for answers to questions like those `trait` is extracted with; made once for a model in memory.

    Costs 32 answers and the reading of 160. A model that cannot tell its answers from shuffled words is said to be one.
    """
    known = _KNOWN.setdefault(model, {})
    if trait.extraction_questions not in known:
        reference = measure(model, trait.extraction_questions)
        if not reference.tells:
            say(
                f"{model.name} finds its own answers hardly likelier than the same words in random order: their likelihood says "
                "nothing of coherence, and only empty and repeated answers can be known for what they are"
            )
        known[trait.extraction_questions] = reference
    return known[trait.extraction_questions]


def measure(
    model: SteerableModel,
    questions: Sequence[str],
    *,
    n_answers: int = N_ANSWERS,
    sampling: Sampling = SAMPLING,
    seed: int = SEED,
) -> Reference:
    """Have the questions answered in turn, without steering or system prompt, and measure whole and damaged answers."""
    asked = [questions[number % len(questions)] for number in range(n_answers)]
    seeds = row_seeds(seed, n_answers)
    answers = model.generate([Conversation.ask(question) for question in asked], sampling=sampling, seed=seeds)
    texts = [(question, answer.text) for question, answer in zip(asked, answers, strict=True) if answer.text.strip()]
    long = [exchange for exchange in texts if can_be_reordered(exchange[1])]
    rng = random.Random(seed)
    rows = list(long)
    for share in DAMAGE:
        rows += [(question, reordered(text, share, rng)) for question, text in long]
    found = [value for value in surprises(model, rows) if value is not None]
    ends = [number * len(long) for number in range(len(DAMAGE) + 2)]
    own, *damaged = (tuple(found[start:end]) for start, end in pairwise(ends))
    return Reference(own, tuple(damaged), tuple(repetition(text) for _, text in texts))
