"""How hard a layer can be pushed before answers fall apart, found by bisection over the perturbation ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.dose import DosePoint, dose_response
from persona_interp.measure.layer_proxies import known_ratios
from persona_interp.measure.layer_scan import MIN_COHERENCE
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector


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


def coherence_cliff(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    layer: int,
    *,
    direction: int = 1,
    largest: float = 1.6,
    tolerance: float = 0.05,
    threshold: float = MIN_COHERENCE,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = "auto",
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
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
        largest: perturbation ratio at which the search begins.
        tolerance: width at which it ends.
        threshold: mean coherence that must be kept, 0-100.
        questions: the trait's extraction questions if None.
        judge: gives the coherence (`load_judge`).
        sampling: how to draw answers.
        seed: of the answers; the same at every ratio.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        InvalidInputError: a range, tolerance or direction that makes no sense, or a vector without the residual norm.
        PersonaInterpError: the judge gives no coherence.
    """
    if direction not in (-1, 1) or not 0 < tolerance < largest:
        raise InvalidInputError(
            f"direction {direction}, tolerance {tolerance:g}, largest ratio {largest:g}: the direction is 1 or -1, and the "
            "tolerance lies between 0 and the largest ratio"
        )
    unit = direction / known_ratios(vector.select([layer]))[layer]
    trait = resolve_trait(model, trait)
    asked = tuple(trait.extraction_questions if questions is None else questions)
    scorer = load_judge(judge, model, trait=trait)
    points: list[DosePoint] = []

    def holds(ratio: float) -> bool:
        found = dose_response(
            model, vector, trait, [ratio * unit], questions=asked, judge=scorer, layers=[layer], sampling=sampling, seed=seed,
            batch_size=batch_size,
        ).points[0]  # fmt: skip
        points.append(found)
        if found.coherence is None:
            raise PersonaInterpError(
                f"judge {scorer.name} gives no coherence: choose one that does, for example judge='auto', to find the cliff"
            )
        return found.coherence >= threshold

    if holds(largest):
        return CoherenceCliff(layer, direction, largest, None, largest * unit, tuple(points))
    safe, broken = 0.0, largest
    while broken - safe > tolerance:
        middle = (safe + broken) / 2
        safe, broken = (middle, broken) if holds(middle) else (safe, middle)
    return CoherenceCliff(layer, direction, safe, broken, safe * unit, tuple(points))
