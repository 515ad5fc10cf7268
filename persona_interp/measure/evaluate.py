"""`evaluate`: did steering work, by how much, at what cost, and would anything else have done as much?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.arms import Arm, Asked, Positions, prompted_arms, steered_arms
from persona_interp.measure.controls import matched, other_trait_for, random_like, small_vector
from persona_interp.measure.dose import DosePoint, dose_point
from persona_interp.measure.evaluation import Controls, Curve, Evaluation
from persona_interp.measure.kept_work import KeptWork
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

N_RANDOM = 4


def evaluate(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float],
    num_prompts: int | None = None,
    *,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = "auto",
    layers: Sequence[int] | None = None,
    positions: Positions = "all",
    samples: int = 1,
    n_random: int = N_RANDOM,
    other: PersonaVector | None = None,
    other_trait: Trait | str | Path | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> Evaluation:
    """Steer at each coefficient, and measure what that did beside what controls do on the same questions.

    The controls are always there: the unsteered model; random directions of the same norms, and another trait's vector brought
    to the same norms, at the same layers and coefficients; another trait scored in the same answers; and the trait's own system
    prompts without steering. All answers come from one batched generation in which each row carries its own write.

    Example:
        >>> found = evaluate(model, vector, "silly", [-1, 1], 10, layers=[3], folder="silly.run")
        >>> [(point.coefficient, found.trait_score(point), found.coherence(point)) for point in found.results]
        >>> print(found.slope, found.coherent_range, markdown(found))

    Args:
        model: the model to steer.
        vector: what to add.
        trait: what to look for, or its name (`resolve_trait`); need not be the vector's own.
        coefficients: multiply the vector as it is; at least one is not 0. The baseline is measured anyway.
        num_prompts: how many of the questions are asked, from the first; all of them if None.
        questions: asked instead of the trait's evaluation questions.
        judge: a judge or its name (`load_judge`).
        layers: which blocks to steer at, every layer of the vector if None.
        positions: which tokens to steer at.
        samples: answers to each question under each condition.
        n_random: random directions, at least 1.
        other: another trait's vector; if None, one is made from forty answers, for comparison only.
        other_trait: scored in the same answers for specificity; that of `other` if its name is known, else "honest", or "silly"
            where the trait itself is about truth.
        sampling: how to draw answers; the defaults of `Sampling` if None.
        seed: of answers and random directions.
        folder: keeps every answer and score as it is made, so that an evaluation cut short goes on where it stopped. None: a
            temporary one, kept only if something goes wrong.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        InvalidInputError: no coefficient other than 0, one twice or not finite; no question, or fewer than `num_prompts`;
            `samples` or `n_random` below 1; `other` of the same trait.
        IncompatibleError: a vector does not fit the model.
        UnknownNameError: the judge does not know a trait.
    """
    trait = resolve_trait(model, trait)
    chosen = vector if layers is None else vector.select(layers)
    doses = checked_coefficients(coefficients, samples)
    if n_random < 1:
        raise InvalidInputError(f"n_random is {n_random}: without a random direction nothing tells an effect from any push")
    asked = Asked(asked_questions(trait, questions, num_prompts), samples, seed)
    for each in (chosen, other):
        if each is not None:
            each.check_fits(model.identity)
    against = other_trait_for(model, trait, chosen, other) if other_trait is None else resolve_trait(model, other_trait)
    _check_other(trait, against)
    scorer = load_judge(judge, model, trait=trait)
    scorer.judge(against, [])  # one that does not know the trait says so now, not after the answers are made
    sampling = Sampling() if sampling is None else sampling
    if other is not None:
        other = matched(other, chosen, trait)  # raises now where it cannot be
    with KeptWork(folder) as work:
        if other is None:
            options: dict[str, Any] = {"sampling": sampling, "seed": seed, "batch_size": batch_size}
            other = matched(small_vector(model, against, folder=work.folder / "other", **options), chosen, trait)
        arms = _Arms(trait, chosen, other, doses, n_random, seed)
        texts = work.answers(model, arms.all, asked, positions=positions, sampling=sampling, batch_size=batch_size)
        measured = _Measured(work, scorer, asked, chosen, dict(zip(arms.all, texts, strict=True)))
        results, controls = _results(arms, measured, trait, against)
        made = {"generated": work.n_generated, "judged": work.n_judged}
    return Evaluation(
        trait=trait.name, vector=vector.trait, model=model.name, judge=scorer.name, layers=chosen.layers, positions=positions,
        questions=asked.questions, samples=samples, results=results, controls=controls,
        provenance=provenance(
            model=model.identity.to_json(), vector=vector.model.to_json(), seed=seed, sampling=sampling.to_json(), made_now=made
        ),
    )  # fmt: skip


class _Arms:
    """All conditions of an evaluation, by what they are for."""

    def __init__(
        self, trait: Trait, vector: PersonaVector, other: PersonaVector, doses: Sequence[float], n_random: int, seed: int
    ) -> None:
        steered = [dose for dose in doses if dose != 0]
        drawn = [random_like(vector, number, seed) for number in range(1, n_random + 1)]
        self.baseline = Arm("baseline")
        self.results = steered_arms(vector.trait, vector, doses)
        self.random = {each.trait: steered_arms(each.trait, each, steered) for each in drawn}
        self.other = steered_arms(other.trait, other, steered)
        self.other_name = other.trait
        self.prompted, self.prompted_against = prompted_arms(trait)

    @property
    def all(self) -> list[Arm]:
        """Every one, the baseline first: what is most wanted is made first within a batch of equal lengths."""
        controls = [arm for arms in self.random.values() for arm in arms]
        return [self.baseline, *self.results, self.prompted, self.prompted_against, *self.other, *controls]


class _Measured:
    """Answers of every arm, scored when they are asked for."""

    def __init__(self, work: KeptWork, judge: Judge, asked: Asked, vector: PersonaVector, texts: dict[Arm, list[str]]) -> None:
        self.work, self.judge, self.asked, self.vector, self.texts = work, judge, asked, vector, texts

    def points(self, trait: Trait, arms: Sequence[Arm]) -> Iterator[DosePoint]:
        """What the judge makes of each arm's answers, all judged together."""
        questions = [question for question, _ in self.asked.rows]
        exchanges = [exchange for arm in arms for exchange in zip(questions, self.texts[arm], strict=True)]
        judged = iter(self.work.judgements(self.judge, trait, exchanges))
        for arm in arms:
            own: list[Judgement] = [next(judged) for _ in questions]
            yield dose_point(arm.coefficient, own, self.texts[arm][:: self.asked.samples], self.vector)


def _results(arms: _Arms, measured: _Measured, trait: Trait, against: Trait) -> tuple[tuple[DosePoint, ...], Controls]:
    found = dict(zip(arms.all, measured.points(trait, arms.all), strict=True))
    scored_otherwise = [arms.baseline, *(arm for arm in arms.results if arm.coefficient != 0)]
    controls = Controls(
        baseline=found[arms.baseline],
        random=tuple(Curve(name, tuple(found[arm] for arm in each)) for name, each in arms.random.items()),
        other_vector=Curve(arms.other_name, tuple(found[arm] for arm in arms.other)),
        other_trait=Curve(against.name, tuple(measured.points(against, scored_otherwise))),
        prompted=found[arms.prompted],
        prompted_against=found[arms.prompted_against],
    )
    return tuple(found[arm] for arm in arms.results), controls


def checked_coefficients(coefficients: Sequence[float], samples: int) -> tuple[float, ...]:
    """Coefficients, each once.

    Raises:
        InvalidInputError: none other than 0, one twice or not finite; or `samples` below 1.
    """
    doses = tuple(map(float, coefficients))
    listed = ", ".join(f"{dose:g}" for dose in doses) or "none"
    if not doses or len(set(doses)) != len(doses) or not all(map(math.isfinite, doses)):
        raise InvalidInputError(f"coefficients are {listed}: give at least one, finite, each once")
    if not any(doses):
        raise InvalidInputError(f"coefficients are {listed}: with 0 alone nothing is steered; give at least one other, such as 1")
    if samples < 1:
        raise InvalidInputError(f"samples is {samples}: give at least 1 answer a question")
    return doses


def asked_questions(trait: Trait, questions: Sequence[str] | None, num_prompts: int | None) -> tuple[str, ...]:
    """The questions to ask: those given or the trait's evaluation questions, from the first.

    Raises:
        InvalidInputError: there are none, one twice, or fewer than `num_prompts`.
    """
    known = tuple(trait.evaluation_questions if questions is None else questions)
    if not known:
        raise InvalidInputError(
            f"trait {trait.name!r} has no evaluation questions: its file keeps all of them for extraction. Add some behind the "
            "first n_extraction ones, or pass questions=[...]"
        )
    if len(set(known)) != len(known):
        raise InvalidInputError("a question is given twice: give each once; samples=2 asks every one twice")
    if num_prompts is None:
        return known
    if not 1 <= num_prompts <= len(known):
        raise InvalidInputError(
            f"num_prompts is {num_prompts}, and trait {trait.name!r} has {len(known)} questions to evaluate on: give 1 to "
            f"{len(known)}. For more answers ask each several times (samples=K, --samples K)"
        )
    return known[:num_prompts]


def _check_other(trait: Trait, against: Trait) -> None:
    if against.name == trait.name:
        raise InvalidInputError(f"the other trait is {against.name!r} too: specificity needs another one")
