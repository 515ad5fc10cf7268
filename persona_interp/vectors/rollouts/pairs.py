"""The filter: which pairs of rollouts show the contrast they were made for (arXiv 2507.21509).

A pair is one positive and one negative rollout of the same instruction pair, question and sample; it is kept or dropped as a
whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.traits.coherence import KEPT
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.rollouts.rollout import RolloutKey, Sign, Slot


@dataclass(frozen=True)
class Thresholds:
    """Scores from 0 to 100 a pair must reach.

    Attributes:
        positive: lowest trait score of the positive answer.
        negative: the negative answer's trait score must lie below.
        coherence: lowest coherence of both. Not applied where the judge scored the coherence of no answer at all.
    """

    positive: float = 50.0
    negative: float = 50.0
    coherence: float = KEPT

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 100:
                raise InvalidInputError(f"the {name} threshold is {value!r}: give a number from 0 to 100")


@dataclass(frozen=True)
class Selection:
    """Which pairs were kept.

    Attributes:
        kept: their slots, in order.
        pairs: how many slots had at least one rollout.
        dropped: reason -> number of pairs; each pair counts once, under the first reason that applies.
        coherence_judged: whether coherence took part.
    """

    kept: tuple[Slot, ...]
    pairs: int
    dropped: dict[str, int]
    coherence_judged: bool

    def keys(self, sign: Sign) -> list[RolloutKey]:
        """The kept rollouts of one sign."""
        return [RolloutKey(sign, slot) for slot in self.kept]

    def to_json(self) -> dict[str, Any]:
        """Counts for the vector's record."""
        return {"pairs": self.pairs, "kept_pairs": len(self.kept), "dropped": dict(self.dropped)}


def select_pairs(
    readable: Mapping[RolloutKey, bool], judgements: Mapping[RolloutKey, Judgement] | None, thresholds: Thresholds
) -> Selection:
    """Apply the filter.

    Args:
        readable: every rollout there is, and whether its answer has a position to read.
        judgements: their scores, or None to keep every pair with two readable answers.
        thresholds: what to ask for.
    """
    slots = sorted({key.slot for key in readable})
    coherence_judged = judgements is not None and any(judgement.coherence is not None for judgement in judgements.values())
    dropped: Counter[str] = Counter()
    kept: list[Slot] = []
    for slot in slots:
        reason = _reason(slot, readable, judgements, thresholds, coherence_judged)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(slot)
    return Selection(tuple(kept), len(slots), dict(dropped), coherence_judged)


def _reason(
    slot: Slot,
    readable: Mapping[RolloutKey, bool],
    judgements: Mapping[RolloutKey, Judgement] | None,
    thresholds: Thresholds,
    coherence_judged: bool,
) -> str:
    """Why a pair falls, or nothing."""
    keys = (RolloutKey("positive", slot), RolloutKey("negative", slot))
    if not all(key in readable for key in keys):
        return "no partner of the other sign"
    if not all(readable[key] for key in keys):
        return "an answer without a token to read"
    if judgements is None:
        return ""
    positive, negative = (judgements.get(key) or Judgement(None, None) for key in keys)
    if positive.trait is None or negative.trait is None:
        return "no usable trait score"
    if positive.trait < thresholds.positive:
        return f"positive answer scored below {thresholds.positive:g}"
    if negative.trait >= thresholds.negative:
        return f"negative answer scored {thresholds.negative:g} or more"
    if coherence_judged:
        if positive.coherence is None or negative.coherence is None:
            return "no usable coherence score"
        if min(positive.coherence, negative.coherence) < thresholds.coherence:
            return f"coherence below {thresholds.coherence:g}"
    return ""


def halves_by_question(asked: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """0 or 1 for each pair, so that no question is asked in both halves.

    Pairs that share a question, directly or through other pairs, form one group; groups are dealt out in turn. Where there is one
    group only nothing can be held out: all 0.

    Args:
        asked: for each pair, the text of the question its positive and its negative answer were given to.
    """
    group: dict[str, int] = {}
    for number, questions in enumerate(asked):
        joined = {group[question] for question in questions if question in group}
        own = min(joined, default=number)
        if len(joined) > 1:
            group = {question: own if of in joined else of for question, of in group.items()}
        group |= dict.fromkeys(questions, own)
    half = {of: place % 2 for place, of in enumerate(dict.fromkeys(group[positive] for positive, _ in asked))}
    return tuple(half[group[positive]] for positive, _ in asked)
