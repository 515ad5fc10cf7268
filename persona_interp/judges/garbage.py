"""The garbage guard: texts that are no answers are kept from every judge, and never count as coherent.

A judge may be taken in by them: a rubric is scored on a row of random words as readily as on prose, and a contrast of likelihoods
has no opinion on either. So the guard stands outside and comes first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal, TypeAlias

from persona_interp.judges.coherence import reference_settings
from persona_interp.judges.determinants import determinants
from persona_interp.judges.one_each import one_each
from persona_interp.judges.reference import SEED, Reference, reference_of
from persona_interp.judges.surprise import surprises
from persona_interp.judges.words import can_be_reordered, has_few_words, reordered, repetition
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait

Fault: TypeAlias = Literal["empty", "repetition", "no order"]
"""Why an answer is caught."""

GARBAGE = Judgement(trait=None, coherence=0.0)
_HALF = 0.5
_ANYONE = 0.8
_GAIN = 0.25
_ORDERS = 3


class GarbageGuard:
    """Tells texts that are no answers from answers, measured against the model's own unsteered ones (`Reference`).

    - ``empty``: nothing but white space and signs that are no letters or digits of any script.
    - ``repetition``: repeats itself so often that more than half of the room above the model's own answers is used up; from 80 %
      repeated runs of words on in any case.
    - ``no order``: unlikelier than the model's own answers usually are, *and* hardly likelier (a quarter of what is usual) than
      its own words in random order. Prose in a strange character is unlikely, but loses by being shuffled; shuffled words and
      random tokens have nothing to lose. Of fewer than four words the order says little: such texts are caught wherever they are
      as unlikely as shuffled words.

    Args:
        model: the model that answered, unsteered.
    """

    def __init__(self, model: SteerableModel) -> None:
        self.model = model

    def faults(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Fault | None]:
        """What is wrong with each answer; None where nothing is."""
        found: list[Fault | None] = ["empty" if is_empty(answer) else None for _, answer in exchanges]
        left = [place for place, fault in enumerate(found) if fault is None]
        if not left:
            return found
        reference = reference_of(self.model, trait)
        limit = repetition_limit(reference)
        for place in left:
            if repetition(exchanges[place][1]) > limit:
                found[place] = "repetition"
        left = [place for place in left if found[place] is None]
        if reference.tells and left:
            for place in self._without_order(reference, exchanges, left):
                found[place] = "no order"
        return found

    def _without_order(self, reference: Reference, exchanges: Sequence[tuple[str, str]], places: Sequence[int]) -> list[int]:
        own = dict(zip(places, surprises(self.model, [exchanges[place] for place in places]), strict=True))
        unusual = {place: value for place, value in own.items() if value is not None and value > reference.usual}
        caught = [p for p, value in unusual.items() if value >= reference.nonsense and has_few_words(exchanges[p][1])]
        long = [place for place in unusual if place not in caught and can_be_reordered(exchanges[place][1])]
        rows: list[tuple[str, str]] = []
        for place in long:
            question, answer = exchanges[place]
            rng = random.Random(f"{SEED}/{answer}")  # by content: a verdict does not depend on the other answers
            rows += [(question, reordered(answer, 1.0, rng)) for _ in range(_ORDERS)]
        shuffled = surprises(self.model, rows)
        for number, place in enumerate(long):
            values = [value for value in shuffled[number * _ORDERS : (number + 1) * _ORDERS] if value is not None]
            if values and fmean(values) - unusual[place] < _GAIN * reference.gain:
                caught.append(place)
        return caught

    def determinants(self, trait: Trait) -> dict[str, Any]:
        """What its verdicts depend on besides the texts."""
        return {"guard": [_HALF, _ANYONE, _GAIN, _ORDERS], **reference_settings(self.model, trait)}


class GuardedJudge:
    """A judge that only sees answers; for what the guard catches, coherence is 0 and there is no trait score.

    Args:
        judge: any judge.
        model: the model that answered, unsteered.
    """

    def __init__(self, judge: Judge, model: SteerableModel) -> None:
        self.inner = judge
        self.guard = GarbageGuard(model)
        self.model = model
        self.name = f"{judge.name} (guarded)"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        faults = self.guard.faults(trait, exchanges)
        passed = [place for place, fault in enumerate(faults) if fault is None]
        found = [GARBAGE] * len(exchanges)
        for place, judgement in zip(passed, one_each(self.inner, trait, [exchanges[p] for p in passed]), strict=True):
            found[place] = judgement
        return found

    def determinants(self, trait: Trait) -> list[Any]:
        """Those of the judge and of the guard."""
        return [determinants(self.inner, trait), self.guard.determinants(trait)]


def guarded(judge: Judge, model: SteerableModel) -> GuardedJudge:
    """`judge` behind the guard of `model`; one that is guarded already is given back."""
    return judge if isinstance(judge, GuardedJudge) else GuardedJudge(judge, model)


def is_empty(answer: str) -> bool:
    """Whether there is no letter and no digit in it, of any script."""
    return not any(sign.isalnum() for sign in answer)


def repetition_limit(reference: Reference) -> float:
    """Share of repeated runs above which a text is a repetition."""
    usual = reference.usual_repetition
    return min(_ANYONE, usual + _HALF * (1 - usual))
