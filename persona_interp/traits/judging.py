"""What a judge is: something that scores answers for a trait and for coherence. The judges themselves live elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from persona_interp.errors import InvalidInputError
from persona_interp.traits.trait import Trait


@dataclass(frozen=True)
class Part:
    """What one of several judges, or one measure, gave an answer: a column of its own.

    Attributes:
        name: of the column, such as ``valence``.
        score: 0 to 100; None where there is none.
        value: what was measured, in the unit of the measure; None for judges that measure nothing.
        why: why there is no score; empty where there is.
    """

    name: str
    score: float | None
    value: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Judgement:
    """Scores of one answer, each 0 to 100, or None where the judge gave no usable one (a refusal, for example).

    Attributes:
        trait: how much of the trait.
        coherence: how coherent.
        parts: what each of several judges or measures gave, where the scores come from more than one.

    Raises:
        InvalidInputError: a score is NaN or outside 0..100.
    """

    trait: float | None
    coherence: float | None
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        named = ((f"part {part.name!r}", part.score) for part in self.parts)
        for field, score in (("trait", self.trait), ("coherence", self.coherence), *named):
            # Written so that NaN, which compares false with everything, is refused too.
            if score is not None and not 0 <= score <= 100:
                raise InvalidInputError(f"{field} score {score!r} is outside 0..100; use None where there is no score")


@runtime_checkable
class Judge(Protocol):
    """Scores answers. Any object with this name and method will do; nothing needs to be inherited."""

    @property
    def name(self) -> str:
        """What results call this judge."""
        ...

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score `exchanges`, each a question and its answer, one judgement each and in their order."""
        ...
