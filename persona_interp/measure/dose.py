"""Dose and response: the same questions answered at several coefficients, scored for the trait and for coherence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.judges.registry import load_judge
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

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
    """

    json_kind = "dose"
    json_names = ("*", "trait", "coherence", "n", "n_without_score")

    coefficient: float
    perturbation_ratio: float | None
    trait_scores: tuple[float | None, ...]
    coherence_scores: tuple[float | None, ...]
    examples: tuple[str, ...] = ()

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
        return _mean(self.trait_scores)

    @property
    def coherence(self) -> float | None:
        """Mean coherence of the answers that have one, None if none has."""
        return _mean(self.coherence_scores)


@dataclass(frozen=True)
class DoseResponse(Record):
    """Trait and coherence against coefficient, for one vector in one model.

    Attributes:
        trait: name of the trait judged.
        vector: name of the trait the vector was made for.
        model: name of the model.
        judge: name of the judge.
        layers: 0-based blocks steered.
        positions: tokens steered.
        points: one a coefficient, in the order asked for.
        provenance: versions, seed, sampling, model identity.
    """

    json_kind = "dose response"
    json_version = 1
    json_names = ("trait", "vector", "model", "judge", "positions", "layers", "spearman", "*")

    trait: str
    vector: str
    model: str
    judge: str
    layers: tuple[int, ...]
    positions: str
    points: tuple[DosePoint, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In the order of `points`."""
        return tuple(point.coefficient for point in self.points)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of coefficient and mean trait score; None with fewer than three scored points, or equal scores."""
        from scipy.stats import spearmanr

        scored = [point for point in self.points if point.trait is not None]
        if len(scored) < 3 or len({point.trait for point in scored}) < 2:
            return None
        result: Any = spearmanr([point.coefficient for point in scored], [point.trait for point in scored])
        return float(result.statistic)

    def at(self, coefficient: float) -> DosePoint:
        """The point of one coefficient.

        Raises:
            InvalidInputError: it was not among those asked for.
        """
        for point in self.points:
            if point.coefficient == coefficient:
                return point
        raise InvalidInputError(f"coefficient {coefficient:g} was not measured: there are {_listed(self.coefficients)}")

    def _repr_html_(self) -> str:
        """In a notebook: what was steered, and a row for each coefficient."""
        columns = {
            name.replace("_", " "): [getattr(point, name) for point in self.points]
            for name in ("coefficient", "perturbation_ratio", "trait", "coherence", "n")
        }
        where = f"the vector {self.vector!r} added at layers {', '.join(map(str, self.layers))} ({self.positions} tokens)"
        return html_table(f"{self.trait} in {self.model}, {where}; judge {self.judge}", columns, bars="trait")


def dose_response(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float],
    *,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = "auto",
    layers: Sequence[int] | None = None,
    positions: Literal["all", "prompt", "response"] = "all",
    sampling: Sampling | None = None,
    seed: int = 0,
    system: str | None = None,
    samples: int = 1,
    batch_size: int | None = None,
) -> DoseResponse:
    """Ask the same questions at each coefficient, and score the answers.

    All coefficients run in one batched generation in which each row carries its own. Row k of every coefficient draws from the
    same random stream, so coefficients are compared on paired answers.

    Example:
        >>> dose = dose_response(model, vector, trait, [-2, -1, 0, 1, 2], layers=[3])
        >>> [(point.coefficient, point.trait, point.coherence) for point in dose.points]

    Args:
        model: the model to steer.
        vector: what to add.
        trait: what to look for, or its name (`resolve_trait`); need not be the vector's own.
        coefficients: multiply the vector as it is; 0 is the unsteered model.
        questions: the trait's evaluation questions if None.
        judge: a judge or its name (`load_judge`).
        layers: which blocks to steer at, every layer of the vector if None.
        positions: which tokens to steer at.
        sampling: how to draw answers; the defaults of `Sampling` if None.
        seed: of the answers' random streams.
        system: a system prompt for all of them.
        samples: answers to each question.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        InvalidInputError: no coefficient or question, one given twice or not finite, or `samples` below 1.
        IncompatibleError: the vector does not fit the model.
    """
    chosen = vector if layers is None else vector.select(layers)
    chosen.check_fits(model.identity)
    doses = _checked(coefficients, samples)
    trait = resolve_trait(model, trait)
    asked = tuple(trait.evaluation_questions if questions is None else questions)
    if not asked:
        raise InvalidInputError(f"trait {trait.name!r} has no evaluation questions: pass questions=[...]")
    scorer = load_judge(judge, model, trait=trait)
    sampling = Sampling() if sampling is None else sampling

    exchanges = [question for question in asked for _ in range(samples)]
    conversations = [Conversation.ask(question, system=system) for question in exchanges]
    width = len(exchanges)
    graph = InterventionGraph()
    for place, dose in enumerate(doses):
        if dose != 0:  # an unsteered row stays exactly that, whatever the operation does at zero
            graph += chosen.graph(dose, positions=positions, rows=range(place * width, (place + 1) * width))
    seeds = row_seeds(seed, width) * len(doses)
    generations = model.generate(conversations * len(doses), graph=graph, sampling=sampling, seed=seeds, batch_size=batch_size)
    texts = [generation.text for generation in generations]
    judgements = scorer.judge(trait, list(zip(exchanges * len(doses), texts, strict=True)))
    points = [
        dose_point(dose, judgements[start : start + width], texts[start : start + width], chosen)
        for dose, start in zip(doses, range(0, len(texts), width), strict=True)
    ]
    return DoseResponse(
        trait=trait.name,
        vector=vector.trait,
        model=model.name,
        judge=scorer.name,
        layers=chosen.layers,
        positions=positions,
        points=tuple(points),
        provenance=provenance(
            model=model.identity.to_json(),
            seed=seed,
            sampling=sampling.to_json(),
            system=system,
            samples=samples,
            questions=list(asked),
        ),
    )


def _checked(coefficients: Sequence[float], samples: int) -> tuple[float, ...]:
    doses = tuple(map(float, coefficients))
    if not doses or len(set(doses)) != len(doses) or not all(map(math.isfinite, doses)):
        raise InvalidInputError(f"coefficients are {_listed(doses) or 'none'}: give at least one, finite, each once")
    if samples < 1:
        raise InvalidInputError(f"samples is {samples}: give at least 1 answer a question")
    return doses


def dose_point(dose: float, judgements: Sequence[Judgement], texts: Sequence[str], steered: PersonaVector) -> DosePoint:
    """The point of one coefficient, from what a judge made of its answers; `steered` is the vector at the steered layers."""
    ratios = steered.norm_ratios
    known = [ratio for ratio in ratios if ratio is not None]
    ratio = abs(dose) * fmean(known) if known and len(known) == len(ratios) else None
    return scored_point(dose, ratio, judgements, texts)


def scored_point(
    dose: float, perturbation_ratio: float | None, judgements: Sequence[Judgement], texts: Sequence[str] = ()
) -> DosePoint:
    """The point of answers that were judged."""
    return DosePoint(
        coefficient=dose,
        perturbation_ratio=perturbation_ratio,
        trait_scores=tuple(judgement.trait for judgement in judgements),
        coherence_scores=tuple(judgement.coherence for judgement in judgements),
        examples=tuple(texts[:N_EXAMPLES]),
    )


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
