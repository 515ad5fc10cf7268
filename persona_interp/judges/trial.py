"""Trying a judge out on twelve short texts whose scores are known to be high or low, before answers are made for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from persona_interp.errors import InvalidInputError
from persona_interp.judges.one_each import one_each
from persona_interp.judges.words import reordered
from persona_interp.traits.judging import Judge
from persona_interp.traits.specimens import specimens
from persona_interp.traits.trait import Trait

ENOUGH = 0.8
"""AUROC from which on a judge is believed."""
_BROKEN = (0, 3, 4, 7)
"""Which specimens are given a second time with their words out of order: two that show the trait, two that do not."""
_FIRST = 4
"""Two texts that show the trait and two that do not: a judge that gives none of these a number is asked no more."""
_SEED = 20_251_130


@dataclass(frozen=True)
class Trial:
    """How a judge did.

    Attributes:
        trait: whose texts it was given.
        own: whether these were written for the trait it is to judge, see `specimens`.
        n_texts: how many it was given.
        n_scored: how many of these it gave a trait score.
        trait_auroc: how well its trait scores tell the four texts that show the trait from the four that do not, .5 by chance; a
            missing score counts as undecided.
        coherence_auroc: likewise how its coherence scores tell those eight from the four in broken order. None where it gives no
            coherence at all.
        refused: why it could not be asked; empty if it could.
    """

    trait: str
    own: bool
    n_texts: int
    n_scored: int
    trait_auroc: float
    coherence_auroc: float | None
    refused: str = ""

    @property
    def passed(self) -> bool:
        """Whether its scores can be believed."""
        others = [] if self.coherence_auroc is None else [self.coherence_auroc]
        return not self.refused and self.n_scored > 0 and min(self.trait_auroc, *others, 1.0) >= ENOUGH

    @property
    def words(self) -> str:
        """The figures in a clause."""
        texts = f"{self.n_texts} short texts written for {self.trait!r}"
        if self.refused:
            return f"it could not rate {texts} ({self.refused})"
        if not self.n_scored:
            return f"it gave none of {texts} a number"
        figures = f"AUROC {self.trait_auroc:.2f} for the trait"
        if self.coherence_auroc is not None:
            figures += f" and {self.coherence_auroc:.2f} for coherence"
        return f"on {texts} it reached {figures} ({self.n_scored} scored), where {ENOUGH} is needed and 0.5 is chance"


def try_out(judge: Judge, trait: Trait) -> Trial:
    """Have `judge` score twelve texts: eight `specimens`, and four of them with their words in another order.

    Costs as much as judging twelve short answers, or four where no number comes.

    Raises:
        PersonaInterpError: the judge fails, for another reason than that its model takes no text of that length.
    """
    of, texts = specimens(trait)
    whole = [(text.question, text.answer) for text in texts]
    rng = random.Random(_SEED)
    broken = [(whole[place][0], reordered(whole[place][1], 1.0, rng)) for place in _BROKEN]
    asked = [*whole, *broken]
    try:
        found = one_each(judge, of, asked[:_FIRST])
        if all(judgement.trait is None for judgement in found):
            return Trial(of.name, of is trait, _FIRST, 0, 0.5, None)
        found += one_each(judge, of, asked[_FIRST:])
    except InvalidInputError as error:
        return Trial(of.name, of is trait, len(asked), 0, 0.5, None, str(error))
    scores = [judgement.trait for judgement in found]
    coherences = [judgement.coherence for judgement in found]
    shown = [score for score, text in zip(scores, texts, strict=False) if text.shows]
    plain = [score for score, text in zip(scores, texts, strict=False) if not text.shows]
    silent = all(score is None for score in coherences)
    return Trial(
        trait=of.name,
        own=of is trait,
        n_texts=len(asked),
        n_scored=sum(score is not None for score in scores),
        trait_auroc=_auroc(shown, plain),
        coherence_auroc=None if silent else _auroc(coherences[: len(whole)], coherences[len(whole) :]),
    )


def _auroc(high: Sequence[float | None], low: Sequence[float | None]) -> float:
    """Share of pairs in the right order; half of one for a tie or a missing score."""
    wins = [0.5 if one is None or other is None or one == other else float(one > other) for one in high for other in low]
    return sum(wins) / len(wins)
