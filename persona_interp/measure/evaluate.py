"""`evaluate`: did steering work, by how much, at what cost, and would anything else have done as much?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import WritePositions
from persona_interp.measure.conditions import Condition, baseline, prompted, steered
from persona_interp.measure.controls import matched, other_trait_for, random_like, small_vector
from persona_interp.measure.evaluation import Controls, Curve, Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import MeasuringOptions, Protocol, checked_coefficients, split
from persona_interp.measure.run import Work
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering
from persona_interp.vectors.steers import Layers

N_RANDOM = 4


class EvaluationOptions(MeasuringOptions, total=False):
    """The attributes of `Protocol` and of `Against`, as `evaluate` takes them by name."""

    n_random: int
    other: PersonaVector | None
    other_trait: Trait | str | Path | None


@dataclass(frozen=True)
class Against:
    """What a vector is compared with.

    Attributes:
        n_random: random directions, at least 1.
        other: another trait's vector; if None, one is made from forty answers, for comparison only.
        other_trait: scored in the same answers for specificity; that of `other` if its name is known, else "honest", or "silly"
            where the trait itself is about truth.

    Raises:
        InvalidInputError: `n_random` is below 1.
    """

    n_random: int = N_RANDOM
    other: PersonaVector | None = None
    other_trait: Trait | str | Path | None = None

    def __post_init__(self) -> None:
        if self.n_random < 1:
            raise InvalidInputError(
                f"n_random is {self.n_random}: without a random direction nothing tells an effect from any push"
            )


def evaluate(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | None = None,
    num_prompts: int | None = None,
    *,
    ratios: Sequence[float] | None = None,
    layers: Layers = None,
    positions: WritePositions = "all",
    **options: Unpack[EvaluationOptions],
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
        num_prompts: how many of the questions are asked, from the first; all of them if None. Of more than there are each is
            asked several times, which is said: intervals are over questions.
        ratios: in place of coefficients, at one layer: how large what is added is, as a share of the mean residual norm there.
        layers: which blocks to steer at: one, several, or ``"all"``; None: the one recorded as the most effective.
        positions: which tokens to steer at.
        options: how it is measured, each by its name in `Protocol`: ``questions``, ``samples``, ``judge``, ``sampling``,
            ``seed`` (of the random directions too), ``folder``, ``batch_size``, or a ``protocol``; and what it is compared with,
            by its name in `Against`: ``n_random``, ``other``, ``other_trait``.

    Raises:
        InvalidInputError: no coefficient other than 0, one twice or not finite; no question, or fewer than `num_prompts`;
            `samples` or `n_random` below 1; `other` of the same trait.
        IncompatibleError: a vector does not fit the model.
        UnknownNameError: the judge does not know a trait.
    """
    trait = resolve_trait(model, trait)
    steering = Steering.of(vector, layers, positions, first_layer=model.first_steerable_layer)
    doses = checked_coefficients(steering.selected.doses(coefficients, ratios))
    protocol, compared = split({"num_prompts": num_prompts, **options}, Protocol, Against)
    for each in (steering.selected, compared.other):
        if each is not None:
            each.check_fits(model.identity)
    against = _other_trait(model, trait, steering.selected, compared)
    asked = protocol.asked(model, trait)
    asked.judge.judge(against, [])  # one that does not know the trait says so now, not after the answers are made
    other = None if compared.other is None else matched(compared.other, steering.selected, trait)  # raises now where it cannot be
    with Work(asked) as work:
        if other is None:
            made = small_vector(
                model, against, sampling=asked.sampling, seed=protocol.seed, folder=work.folder / "other",
                batch_size=protocol.batch_size,
            )  # fmt: skip
            other = matched(made, steering.selected, trait)
        arms = _arms(trait, steering, other, doses, compared.n_random, protocol.seed)
        answers = iter(work.answers(model, [condition for each in arms.values() for condition in each]))
        answered = {name: [next(answers) for _ in each] for name, each in arms.items()}
        judged = iter(work.judged([one for each in answered.values() for one in each]))
        found = {name: tuple(next(judged).point(steering) for _ in each) for name, each in answered.items()}
        again = [*answered[BASELINE], *(each for each in answered[RESULTS] if each.condition.coefficient)]
        elsewhere = tuple(each.point(steering) for each in work.judged(again, trait=against))
    return Evaluation(
        trait=trait.name, vector=vector.trait, model=model.name, judge=asked.judge.name, layers=steering.layers,
        positions=positions, questions=asked.questions, samples=asked.samples, results=found[RESULTS],
        controls=_controls(found, other.trait, Curve(against.name, elsewhere)),
        provenance=provenance(
            model=model.identity.to_json(), vector=vector.model.to_json(), **asked.record, made_now=work.made
        ),
    )  # fmt: skip


BASELINE, RESULTS, PROMPTED, OTHER, RANDOM = "baseline", "results", "prompted", "other", "random "


def _arms(
    trait: Trait, steering: Steering, other: PersonaVector, doses: Sequence[float], n_random: int, seed: int
) -> dict[str, Sequence[Condition]]:
    """All conditions by what they are for; what is most wanted is made first within a batch of equal lengths."""
    nonzero = [dose for dose in doses if dose != 0]

    def control(vector: PersonaVector) -> list[Condition]:
        return steered(vector.trait, Steering(vector, positions=steering.positions), nonzero)

    return {
        BASELINE: [baseline()],
        RESULTS: steered(steering.vector.trait, steering, doses),
        PROMPTED: prompted(trait),
        OTHER: control(other),
        **{
            each.trait: control(each)
            for number in range(1, n_random + 1)
            if (each := random_like(steering.selected, number, seed))
        },
    }


def _controls(found: dict[str, tuple[DosePoint, ...]], other: str, elsewhere: Curve) -> Controls:
    return Controls(
        baseline=found[BASELINE][0],
        random=tuple(Curve(name, points) for name, points in found.items() if name.startswith(RANDOM)),
        other_vector=Curve(other, found[OTHER]),
        other_trait=elsewhere,
        prompted=found[PROMPTED][0],
        prompted_against=found[PROMPTED][1],
    )


def _other_trait(model: SteerableModel, trait: Trait, vector: PersonaVector, compared: Against) -> Trait:
    """What specificity is measured against.

    Raises:
        InvalidInputError: it is the trait itself.
    """
    if compared.other_trait is None:
        return other_trait_for(model, trait, vector, compared.other)
    against = resolve_trait(model, compared.other_trait)
    if against.name == trait.name:
        raise InvalidInputError(f"the other trait is {against.name!r} too: specificity needs another one")
    return against
