"""`EvaluationScores`: what steering did at each coefficient, and what the controls did; summaries follow from the scores kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.measure.bootstrap import CurveStatistic, QuestionBootstrap, correlation, rank_correlation, slope
from persona_interp.measure.coherent_range import COHERENT, CoherentRange, coherent_range
from persona_interp.measure.point import DosePoint, estimate_json, with_estimates, wrong_numbers
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record

_FEW_QUESTIONS = 10


@dataclass(frozen=True)
class Curve:
    """The answers under one vector, at every coefficient asked for except 0, which is the baseline.

    Attributes:
        name: of the vector: its trait, or ``random 1``.
        points: in the order asked for.
    """

    name: str
    points: tuple[DosePoint, ...]

    def at(self, coefficient: float) -> DosePoint | None:
        """The point of one coefficient, None if it was not measured."""
        return next((point for point in self.points if point.coefficient == coefficient), None)


@dataclass(frozen=True)
class Controls:
    """What the evaluation is compared with, on the same questions and random streams.

    Attributes:
        baseline: the unsteered model.
        random: directions drawn at random, of the vector's norm at each layer, at the same layers and coefficients.
        other_vector: another trait's vector, brought to the same norms, scored for *this* trait.
        other_trait: the answers of `Evaluation.results` and, at 0, of the baseline, scored for *another* trait.
        prompted: no steering; the trait's positive system prompts, each question under one of them in turn.
        prompted_against: likewise the negative ones.
    """

    baseline: DosePoint
    random: tuple[Curve, ...]
    other_vector: Curve
    other_trait: Curve
    prompted: DosePoint
    prompted_against: DosePoint


@dataclass(frozen=True)
class EvaluationScores(Record):
    """One vector in one model, measured against controls: the scores, and statistics of them.

    Every estimate has a 95 % interval from a bootstrap over questions in which all conditions share the questions drawn.

    Attributes:
        trait: name of the trait scored.
        vector: name of the trait the vector was made for.
        model: name of the model.
        judge: name of the judge.
        layers: 0-based blocks steered.
        positions: tokens steered.
        questions: asked under every condition.
        samples: answers to each question; scores are in the order of the questions, all samples of the first one first.
        results: one a coefficient, in the order asked for.
        controls: what else was measured.
        provenance: versions, seed, sampling, identities.
    """

    json_kind = "evaluation"
    json_version = 1

    trait: str
    vector: str
    model: str
    judge: str
    layers: tuple[int, ...]
    positions: str
    questions: tuple[str, ...]
    samples: int
    results: tuple[DosePoint, ...]
    controls: Controls
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def __post_init__(self) -> None:
        if self.controls.other_trait.at(0.0) is None:
            raise InvalidInputError("the other trait has no scores of the unsteered answers: give a point at coefficient 0")
        if wrong := wrong_numbers(self._points(), len(self.questions), self.samples):
            raise InvalidInputError(wrong)

    def at(self, coefficient: float) -> DosePoint:
        """The result of one coefficient.

        Raises:
            InvalidInputError: it was not among those asked for.
        """
        found = next((point for point in self.results if point.coefficient == coefficient), None)
        if found is None:
            listed = ", ".join(f"{point.coefficient:g}" for point in self.results)
            raise InvalidInputError(f"coefficient {coefficient:g} was not measured: there are {listed}")
        return found

    # -- one condition ---------------------------------------------------------------------------------------------

    def trait_score(self, point: DosePoint) -> Estimate:
        """Mean trait score of a result or control, 0-100."""
        return self._bootstrap.mean(point.trait_scores)

    def coherence(self, point: DosePoint) -> Estimate:
        """Mean coherence of a result or control, 0-100."""
        return self._bootstrap.mean(point.coherence_scores)

    def change(self, point: DosePoint, base: DosePoint | None = None) -> Estimate:
        """Points between the trait score of `base` (the baseline if None) and that of `point`, question by question."""
        base = self.controls.baseline if base is None else base
        return self._bootstrap.difference(point.trait_scores, base.trait_scores)

    @property
    def other_baseline(self) -> DosePoint:
        """The unsteered answers scored for the other trait."""
        return next(point for point in self.controls.other_trait.points if point.coefficient == 0)

    def random_scores(self, coefficient: float) -> tuple[float, ...]:
        """Mean trait score under each random direction at one coefficient; those without a score are left out."""
        points = (curve.at(coefficient) for curve in self.controls.random)
        return tuple(point.trait for point in points if point is not None and point.trait is not None)

    # -- all coefficients ------------------------------------------------------------------------------------------

    @cached_property
    def curve(self) -> tuple[DosePoint, ...]:
        """The results in ascending order of their coefficients, with the baseline at 0."""
        steered = (point for point in self.results if point.coefficient != 0)
        return tuple(sorted((self.controls.baseline, *steered), key=lambda point: point.coefficient))

    @cached_property
    def slope(self) -> Estimate:
        """Points of trait score per unit of coefficient: least squares over `curve`, incoherent coefficients included."""
        return self._over_curve(slope)

    @cached_property
    def slope_per_ratio(self) -> Estimate:
        """The same per unit of perturbation ratio; no value where the vector does not know the residual norms."""
        units = (_ratio_per_unit(point) for point in self.curve)
        unit = next((unit for unit in units if unit), None)
        found = self.slope
        if unit is None:
            return Estimate(None, None, None, found.n)
        ends = (None if end is None else end / unit for end in (found.value, found.low, found.high))
        return Estimate(*ends, n=found.n)

    @cached_property
    def spearman(self) -> Estimate:
        """Rank correlation of coefficient and mean trait score over `curve`, from three coefficients on."""
        return self._over_curve(rank_correlation)

    @cached_property
    def pearson(self) -> Estimate:
        """Pearson's correlation, likewise."""
        return self._over_curve(correlation)

    @cached_property
    def coherent_range(self) -> CoherentRange | None:
        """Where coherence stays at 70 or above; None where the judge gave none, or the unsteered model itself is below."""
        return coherent_range(self.curve, COHERENT)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before believing the numbers."""
        return tuple(self._notes())

    def _notes(self) -> list[str]:
        found: list[str] = []
        n = len(self.questions)
        if n == 1:
            found.append("Only one question was asked: nothing says how questions differ, so there is no interval anywhere.")
        elif n < _FEW_QUESTIONS:
            found.append(f"Only {n} questions were asked: intervals are rough, and rather too narrow.")
        measured = [self.controls.baseline, *(point for point in self.results if point.coefficient != 0)]
        missing, total = sum(point.n_without_score for point in measured), sum(point.n for point in measured)
        if missing:
            found.append(f"{missing} of {total} answers got no trait score from the judge {self.judge!r}; they are in no mean.")
        if all(point.coherence is None for point in measured):
            found.append(f"The judge {self.judge!r} gave no coherence: which coefficients are usable is not known.")
        elif self.coherent_range is None:
            found.append(f"The unsteered answers themselves have a coherence below {COHERENT:g}.")
        return found

    @cached_property
    def _bootstrap(self) -> QuestionBootstrap:
        return QuestionBootstrap(len(self.questions), self.samples)

    def _over_curve(self, statistic: CurveStatistic) -> Estimate:
        scores = [point.trait_scores for point in self.curve]
        return self._bootstrap.over_curve([point.coefficient for point in self.curve], scores, statistic)

    def _points(self) -> Sequence[DosePoint]:
        controls = self.controls
        curves = (*controls.random, controls.other_vector, controls.other_trait)
        alone = (controls.baseline, controls.prompted, controls.prompted_against)
        return (*self.results, *alone, *(point for curve in curves for point in curve.points))

    # -- files -----------------------------------------------------------------------------------------------------

    def json_items(self) -> dict[str, Any]:
        """Estimates are written as ``{estimate, low, high, n}`` beside the scores they follow from."""
        controls = self.controls

        def point(one: DosePoint, base: DosePoint = controls.baseline) -> dict[str, Any]:
            return with_estimates(one, self._bootstrap, change=self.change(one, base))

        def curve(one: Curve, label: str, base: DosePoint = controls.baseline) -> dict[str, Any]:
            return {label: one.name, "results": [point(each, base) for each in one.points]}

        return {
            **{name: getattr(self, name) for name in ("trait", "vector", "model", "judge", "positions", "layers")},
            "results": [point(each) for each in self.results],
            "controls": {
                "baseline": point(controls.baseline),
                "random": [curve(each, "vector") for each in controls.random],
                "other_vector": curve(controls.other_vector, "vector"),
                "other_trait": curve(controls.other_trait, "trait", self.other_baseline),
                "prompt_only": {"positive": point(controls.prompted), "negative": point(controls.prompted_against)},
            },
            **{name: estimate_json(getattr(self, name)) for name in ("slope", "slope_per_ratio", "spearman", "pearson")},
            **{name: getattr(self, name) for name in ("coherent_range", "notes", "questions", "samples", "provenance")},
        }

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Controls by the names of their fields."""
        controls: Mapping[str, Any] = data["controls"]
        prompted = controls["prompt_only"]

        def curve(one: Mapping[str, Any], label: str) -> dict[str, Any]:
            return {"name": one[label], "points": one["results"]}

        curves = {
            "random": [curve(each, "vector") for each in controls["random"]],
            "other_vector": curve(controls["other_vector"], "vector"),
            "other_trait": curve(controls["other_trait"], "trait"),
        }
        alone = {"prompted": prompted["positive"], "prompted_against": prompted["negative"]}
        return {**data, "controls": {**controls, **curves, **alone}}


def _ratio_per_unit(point: DosePoint) -> float | None:
    if point.coefficient == 0 or point.perturbation_ratio is None:
        return None
    return point.perturbation_ratio / abs(point.coefficient)
