"""Conditions answered and scored: one batched generation, one judgement, one point for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from persona_interp.measure.arms import Arm, Asked, Positions
from persona_interp.measure.dose import DosePoint, dose_point
from persona_interp.measure.kept_work import KeptWork
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judge
from persona_interp.traits.trait import Trait


def arm_points(
    work: KeptWork,
    model: SteerableModel,
    arms: Mapping[str, Sequence[Arm]],
    asked: Asked,
    judge: Judge,
    trait: Trait,
    positions: Positions,
    sampling: Sampling,
    batch_size: int | None,
) -> dict[str, tuple[DosePoint, ...]]:
    """Every arm's answers and scores, by what the arms are for; at least one of them steers."""
    listed = [arm for each in arms.values() for arm in each]
    texts = work.answers(model, listed, asked, positions=positions, sampling=sampling, batch_size=batch_size)
    questions = [question for question, _ in asked.rows]
    exchanges = [exchange for row in texts for exchange in zip(questions, row, strict=True)]
    judged = iter(work.judgements(judge, trait, exchanges))
    own = next(arm.vector for arm in listed if arm.vector is not None)
    found = {
        id(arm): dose_point(arm.coefficient, [next(judged) for _ in questions], row[:: asked.samples], arm.vector or own)
        for arm, row in zip(listed, texts, strict=True)
    }
    return {name: tuple(found[id(arm)] for arm in each) for name, each in arms.items()}
