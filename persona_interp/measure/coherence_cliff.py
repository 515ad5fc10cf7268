"""How hard a layer can be pushed before answers fall apart, found by bisection over the perturbation ratio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.measure.conditions import Condition
from persona_interp.measure.layer_proxies import known_ratios
from persona_interp.measure.layer_scan import MIN_COHERENCE
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import Protocol, ProtocolOptions, split
from persona_interp.measure.run import Work
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering


@dataclass(frozen=True)
class CoherenceCliff:
    """Where mean coherence falls below a threshold, for one layer and direction.

    Attributes:
        layer: 0-based block.
        direction: +1 or -1.
        safe: largest perturbation ratio measured at which coherence still holds; 0 if none did.
        broken: smallest at which it does not; None if it held up to the largest tried.
        safe_coefficient: the coefficient of `safe`.
        points: everything that was measured.
    """

    layer: int
    direction: int
    safe: float
    broken: float | None
    safe_coefficient: float
    points: tuple[DosePoint, ...]


class CliffOptions(ProtocolOptions, total=False):
    """The attributes of `Protocol` and of `Search`, as `coherence_cliff` takes them by name."""

    largest: float
    tolerance: float
    threshold: float


@dataclass(frozen=True)
class Search:
    """Where the cliff is looked for.

    Attributes:
        largest: perturbation ratio at which the search begins.
        tolerance: width at which it ends.
        threshold: mean coherence that must be kept, 0-100.
    """

    largest: float = 1.6
    tolerance: float = 0.05
    threshold: float = MIN_COHERENCE


def coherence_cliff(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    layer: int,
    *,
    direction: int = 1,
    **options: Unpack[CliffOptions],
) -> CoherenceCliff:
    """Bisect the perturbation ratio between 0 and `largest` until the cliff is known to `tolerance`.

    Takes about ``log2(largest / tolerance)`` small generations. Coherence is assumed to fall as the ratio grows; on few questions
    it is noisy, so the cliff is no sharper than its questions allow.

    Args:
        model: the model to steer.
        vector: knows the residual norm at `layer`.
        trait: whose questions are asked, or its name (`resolve_trait`).
        layer: where.
        direction: +1 adds the vector, -1 subtracts it.
        options: ``largest``, ``tolerance`` and ``threshold`` (see `Search`), and how it is measured, each by its name in
            `Protocol`; the questions are the trait's extraction questions if None.

    Raises:
        InvalidInputError: a range, tolerance or direction that makes no sense, or a vector without the residual norm.
        PersonaInterpError: the judge gives no coherence.
    """
    protocol, search = split(options, Protocol, Search)
    if direction not in (-1, 1) or not 0 < search.tolerance < search.largest:
        raise InvalidInputError(
            f"direction {direction}, tolerance {search.tolerance:g}, largest ratio {search.largest:g}: the direction is 1 or -1, "
            "and the tolerance lies between 0 and the largest ratio"
        )
    unit = direction / known_ratios(vector.select([layer]))[layer]
    trait = resolve_trait(model, trait)
    asked = protocol.asked(model, trait, trait.extraction_questions, streams="place", distinct=False)
    points: list[DosePoint] = []

    def holds(ratio: float) -> bool:
        (answers,) = work.scored(model, [Condition(vector.trait, Steering(vector, (layer,), ratio * unit))])
        found = answers.point(examples=answers.texts)
        points.append(found)
        if found.coherence is None:
            raise PersonaInterpError(
                f"judge {asked.judge.name} gives no coherence: choose one that does, for example judge='auto', to find the cliff"
            )
        return found.coherence >= search.threshold

    safe, broken = 0.0, search.largest
    with Work(asked) as work:
        if holds(broken):
            return CoherenceCliff(layer, direction, broken, None, broken * unit, tuple(points))
        while broken - safe > search.tolerance:
            middle = (safe + broken) / 2
            safe, broken = (middle, broken) if holds(middle) else (safe, middle)
    return CoherenceCliff(layer, direction, safe, broken, safe * unit, tuple(points))
