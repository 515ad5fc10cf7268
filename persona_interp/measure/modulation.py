"""What ways of modulating a GGUF model do to a trait: from inside, by biases of tokens, by sampling parameters, by placebos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from persona_interp.blackbox.entropy import plain_temperature
from persona_interp.blackbox.logit_bias import LogitBiasModulator
from persona_interp.blackbox.modulator import Modulator
from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.blackbox.token_lens import TokenLens
from persona_interp.blackbox.token_texts import TokenTexts
from persona_interp.judges.registry import load_judge
from persona_interp.measure.arms import Arm, Asked, prompted_arms, steered_arms
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.evaluate import asked_questions
from persona_interp.measure.kept_work import KeptWork
from persona_interp.measure.statistics import Estimate
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.records import Record
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

RATIO = 0.4
"""Perturbation ratio of the control vector's ends."""
COEFFICIENT = 2.0
"""Coefficient of the other modes' ends: the brief's range is -2 to 2."""
FAR = 20.0
"""Parameters are tried this far too, where they reach the ends of their ranges."""


@dataclass(frozen=True)
class Modulated(Record):
    """One mode on one trait.

    Attributes:
        mode: what was done.
        placebo: whether it is one: it cannot know what the vector means.
        trait: what was scored.
        model: the GGUF model.
        low: mean trait score at the negative end, 0-100.
        base: unmodulated.
        high: at the positive end.
        movement: points from the negative end to the positive one.
        share: of what the control vector moves.
        coherence: the lowest mean of the ends.
    """

    json_kind = "modulation"

    mode: str
    placebo: bool
    trait: str
    model: str
    low: float | None
    base: float | None
    high: float | None
    movement: Estimate
    share: Estimate
    coherence: float | None


def modulation_modes(
    target: SteerableModel,
    source: SteerableModel,
    vector: PersonaVector,
    other: PersonaVector | None,
    trait: Trait | str | Path,
    layer: int,
    *,
    judge: str | Judge | None = "auto",
    questions: int | None = None,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> tuple[Modulated, ...]:
    """Every mode at both ends of its range, on the same questions and random streams.

    Args:
        target: the model as GGUF.
        source: the same model in PyTorch, whose vectors they are; reads them as biases, and gives entropies.
        vector: of the trait.
        other: of another trait, for placebos; None: without these.
        trait: what is scored, or its name (`resolve_trait`).
        layer: 0-based block steered, at least 1.
        judge: scores answers (`load_judge`).
        questions: evaluation questions asked; None: all.
        samples: answers to each.
        sampling: of all answers, before it is modulated.
        seed: of answers and of the shuffled placebo.
        folder: keeps answers and scores.
        batch_size: rows run together.
    """
    base = Sampling() if sampling is None else sampling
    trait = resolve_trait(source, trait)
    asked = Asked(asked_questions(trait, None, questions), samples, seed)
    run = _Run(target, trait, asked, load_judge(judge, source, trait=trait), base, batch_size)
    ratio = vector.select([layer]).norm_ratios[0]
    dose = RATIO / (ratio or 1.0)
    inside_arms = steered_arms("control vector", vector.select([layer]), (-dose, dose))
    positive, negative = prompted_arms(trait)
    with KeptWork(folder) as work:
        unmodulated = run.scores(work, Arm("baseline"), base)
        ends = {
            ("control vector", False): [run.scores(work, arm, base) for arm in inside_arms],
            ("prompt only", False): [run.scores(work, arm, base) for arm in (negative, positive)],
        }
        for name, placebo, samplings in _samplings(source, target, vector, other, layer, base, trait, seed, batch_size):
            ends[name, placebo] = [run.scores(work, Arm(name), each) for each in samplings]
    inside = ends["control vector", False]
    return tuple(_modulated(name, placebo, run, unmodulated, found, inside) for (name, placebo), found in ends.items())


def _samplings(
    source: SteerableModel,
    target: SteerableModel,
    vector: PersonaVector,
    other: PersonaVector | None,
    layer: int,
    base: Sampling,
    trait: Trait,
    seed: int,
    batch_size: int | None,
) -> Iterator[tuple[str, bool, tuple[Sampling, Sampling]]]:
    lens = TokenLens(source, trait.extraction_questions, seed=seed, batch_size=batch_size)
    texts = TokenTexts(target.tokenizer, target.name)

    def ends(modulator: Modulator, far: float) -> tuple[Sampling, Sampling]:
        return modulator.sampling(-far), modulator.sampling(far)

    def biases(of: PersonaVector) -> tuple[Sampling, Sampling]:
        return ends(LogitBiasModulator.of(of, lens, texts, layers=[layer], base=base), COEFFICIENT)

    shuffled = _shuffled(vector.select([layer]), seed)
    yield "logit bias", False, biases(vector)
    yield "logit bias, shuffled vector", True, biases(shuffled)
    if other is not None:
        yield "logit bias, other trait", True, biases(other)
    log_probs = lens.log_probs
    for far in (COEFFICIENT, FAR):
        parameters = ends(ParameterModulator.of(vector, layers=[layer], base=base), far)
        yield f"parameters at ±{far:g}", False, parameters
        if far == FAR:
            yield f"parameters at ±{far:g}, shuffled vector", True, ends(ParameterModulator.of(shuffled, base=base), far)
            if other is not None:
                theirs = ParameterModulator.of(other, layers=[layer], base=base)
                yield f"parameters at ±{far:g}, other trait", True, ends(theirs, far)
            low, high = (replace(base, temperature=plain_temperature(log_probs, each)) for each in parameters)
            yield "temperature at equal entropy", True, (low, high)


def _shuffled(vector: PersonaVector, seed: int) -> PersonaVector:
    """The same entries in another order, with random signs: as long, and about nothing."""
    generator = torch.Generator().manual_seed(fitting_seed(seed))
    order = torch.randperm(vector.d_model, generator=generator)
    signs = torch.randint(0, 2, (vector.d_model,), generator=generator) * 2 - 1
    return replace(vector, directions=vector.directions[:, order] * signs)


class _Run:
    def __init__(
        self, model: SteerableModel, trait: Trait, asked: Asked, judge: Judge, base: Sampling, batch_size: int | None
    ) -> None:
        self.model, self.trait, self.asked, self.judge, self.batch_size = model, trait, asked, judge, batch_size
        self.bootstrap = QuestionBootstrap(len(asked.questions), asked.samples)

    def scores(self, work: KeptWork, arm: Arm, sampling: Sampling) -> list[Judgement]:
        """What the judge says of every answer."""
        (texts,) = work.answers(self.model, [arm], self.asked, positions="all", sampling=sampling, batch_size=self.batch_size)
        exchanges = [(question, text) for (question, _), text in zip(self.asked.rows, texts, strict=True)]
        return work.judgements(self.judge, self.trait, exchanges)


def _modulated(
    mode: str,
    placebo: bool,
    run: _Run,
    base: Sequence[Judgement],
    ends: Sequence[Sequence[Judgement]],
    inside: Sequence[Sequence[Judgement]],
) -> Modulated:
    low, high = ([each.trait for each in side] for side in ends)
    own = [[each.trait for each in side] for side in inside]

    def share(_places: Any, means: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (means[:, 1] - means[:, 0]) / (means[:, 3] - means[:, 2])

    coherences = [_mean([each.coherence for each in side]) for side in ends]
    return Modulated(
        mode=mode,
        placebo=placebo,
        trait=run.trait.name,
        model=run.model.name,
        low=_mean(low),
        base=_mean([each.trait for each in base]),
        high=_mean(high),
        movement=run.bootstrap.difference(high, low),
        share=run.bootstrap.over_curve([0, 1, 2, 3], [low, high, *own], share),
        coherence=min((value for value in coherences if value is not None), default=None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
