"""`DosePoint`: the scored answers under one condition, the one form in which every measurement keeps and writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean
from typing import Any, TypeAlias

from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.parts import part_scores, reasons
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record, json_value
from persona_interp.traits.judging import Judgement

N_EXAMPLES = 3


@dataclass(frozen=True)
class DosePoint(Record):
    """What one coefficient did.

    Attributes:
        coefficient: multiplied the vector as it is.
        perturbation_ratio: mean over the steered layers of |coefficient * v| / mean |h|, a dose that compares across layers and
            models; None where the vector does not know the residual norms.
        trait_scores: 0-100 for each answer, None where the judge had no score; in the order of the questions (all samples of the
            first, then of the second, ...), the same at every coefficient.
        coherence_scores: likewise.
        examples: the first answers.
        parts: name -> scores, where they come from several judges or measures: what each gave every answer.
        missing: name -> why it gave no score -> how many answers.
    """

    json_kind = "dose"
    json_names = ("*", "trait", "coherence", "n", "n_without_score")
    json_newer = ("parts", "missing")

    coefficient: float
    perturbation_ratio: float | None
    trait_scores: tuple[float | None, ...]
    coherence_scores: tuple[float | None, ...]
    examples: tuple[str, ...] = ()
    parts: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, "tuple[float | None, ...]"], hash=False)
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]], hash=False)

    @property
    def n(self) -> int:
        """Answers."""
        return len(self.trait_scores)

    @property
    def n_without_score(self) -> int:
        """Answers the judge gave no trait score; they are in no mean."""
        return self.trait_scores.count(None)

    @property
    def trait(self) -> float | None:
        """Mean trait score of the answers that have one, None if none has."""
        return mean_known(self.trait_scores)

    @property
    def coherence(self) -> float | None:
        """Mean coherence of the answers that have one, None if none has."""
        return mean_known(self.coherence_scores)

    def json_items(self) -> dict[str, Any]:
        """Without parts where there are none, as before there were any."""
        return {name: value for name, value in super().json_items().items() if name not in self.json_newer or value}


def mean_known(scores: Iterable[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


Points: TypeAlias = tuple[DosePoint, ...]
"""Points at several coefficients, in the order asked for."""


def judged_point(
    judgements: Sequence[Judgement],
    *,
    coefficient: float = 0.0,
    perturbation_ratio: float | None = None,
    examples: Sequence[str] = (),
) -> DosePoint:
    """The point of answers that were judged; the first of `examples` are kept."""
    return DosePoint(
        coefficient,
        perturbation_ratio,
        tuple(each.trait for each in judgements),
        tuple(each.coherence for each in judgements),
        tuple(examples[:N_EXAMPLES]),
        part_scores(judgements),
        reasons(judgements),
    )


def with_estimates(point: DosePoint, bootstrap: QuestionBootstrap, **more: Estimate) -> dict[str, Any]:
    """A point as JSON values, its means as estimates over the questions, and more estimates beside them."""
    estimates = {
        "trait_score": bootstrap.mean(point.trait_scores),
        "coherence": bootstrap.mean(point.coherence_scores),
        **more,
    }
    values = {each.name: json_value(getattr(point, each.name)) for each in fields(point)}
    kept = {name: value for name, value in values.items() if name not in point.json_newer or value}
    return {**kept, "n_without_score": point.n_without_score, **{name: estimate_json(each) for name, each in estimates.items()}}


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """``{estimate, low, high, n}``; null where there is no value, or no interval."""
    return {"estimate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def wrong_numbers(points: Iterable[DosePoint], n_questions: int, samples: int) -> str | None:
    """What is wrong with the numbers of scores of `points`; None where they are what the questions make."""
    n = n_questions * samples
    for point in points:
        if not len(point.trait_scores) == len(point.coherence_scores) == n:
            return (
                f"coefficient {point.coefficient:g} has {point.n} trait and {len(point.coherence_scores)} coherence scores "
                f"for {n_questions} questions with {samples} answers each: expected {n}"
            )
    return None
