"""Asking a judge, and making sure that every answer got its own judgement."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.errors import InvalidInputError
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait


def one_each(judge: Judge, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
    """What `judge` says of each (question, answer).

    Raises:
        InvalidInputError: it gave another number of judgements than it was asked for.
    """
    found = list(judge.judge(trait, exchanges))
    if len(found) != len(exchanges):
        raise InvalidInputError(
            f"the judge {judge.name!r} gave {len(found)} judgements for {len(exchanges)} answers: one each is needed, None "
            "inside it where there is no score"
        )
    return found
