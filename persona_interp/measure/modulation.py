"""What ways of modulating a GGUF model do to a trait: from inside, by biases of tokens, by sampling parameters, by placebos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from persona_interp.blackbox.entropy import plain_temperature
from persona_interp.blackbox.logit_bias import LogitBiasModulator
from persona_interp.blackbox.modulator import Modulator
from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.blackbox.token_lens import TokenLens
from persona_interp.blackbox.token_texts import TokenTexts
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.conditions import Condition, baseline, prompted, steered
from persona_interp.measure.point import DosePoint, Points
from persona_interp.measure.protocol import Asked, Protocol, ProtocolOptions
from persona_interp.measure.run import points_of
from persona_interp.measure.statistics import Estimate
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.records import Record
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

RATIO = 0.4
"""Perturbation ratio of the control vector's ends."""
COEFFICIENT = 2.0
"""Coefficient of the other modes' ends: the brief's range is -2 to 2."""
_INSIDE = "control vector"
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
    **options: Unpack[ProtocolOptions],
) -> tuple[Modulated, ...]:
    """Every mode at both ends of its range, on the same questions and random streams.

    Args:
        target: the model as GGUF.
        source: the same model in PyTorch, whose vectors they are; reads them as biases, and gives entropies.
        vector: of the trait.
        other: of another trait, for placebos; None: without these.
        trait: what is scored, or its name (`resolve_trait`).
        layer: 0-based block steered, at least 1.
        options: how it is measured, each by its name in `Protocol`; ``sampling`` is that of all answers before it is modulated,
            ``seed`` also that of the shuffled placebo.
    """
    asked = Protocol.of(options).asked(source, trait)
    steering = Steering(vector, (layer,))
    dose = RATIO / (steering.perturbation_ratio or 1.0)
    positive, negative = prompted(asked.trait)
    ends: dict[tuple[str, bool], Sequence[Condition]] = {
        (_INSIDE, False): steered(_INSIDE, steering, (-dose, dose)),
        ("prompt only", False): (negative, positive),
    }
    for name, placebo, samplings in _samplings(source, target, steering, other, asked):
        ends[name, placebo] = [Condition(name, sampling=each) for each in samplings]
    points = points_of(target, asked, {None: [baseline()], **ends})
    ((plain,), inside) = points.pop(None), points[_INSIDE, False]
    return tuple(_modulated(asked, target.name, plain, inside, mode, found) for mode, found in points.items() if mode)


def _samplings(
    source: SteerableModel,
    target: SteerableModel,
    steering: Steering,
    other: PersonaVector | None,
    asked: Asked,
) -> Iterator[tuple[str, bool, tuple[Sampling, Sampling]]]:
    vector, layers, base, seed = steering.vector, steering.layers, asked.sampling, asked.protocol.seed
    lens = TokenLens(source, asked.trait.extraction_questions, seed=seed, batch_size=asked.protocol.batch_size)
    texts = TokenTexts(target.tokenizer, target.name)

    def ends(modulator: Modulator, far: float) -> tuple[Sampling, Sampling]:
        return modulator.sampling(-far), modulator.sampling(far)

    def biases(of: PersonaVector) -> tuple[Sampling, Sampling]:
        return ends(LogitBiasModulator.of(of, lens, texts, layers=layers, base=base), COEFFICIENT)

    shuffled = _shuffled(steering.selected, seed)
    yield "logit bias", False, biases(vector)
    yield "logit bias, shuffled vector", True, biases(shuffled)
    if other is not None:
        yield "logit bias, other trait", True, biases(other)
    log_probs = lens.log_probs
    for far in (COEFFICIENT, FAR):
        parameters = ends(ParameterModulator.of(vector, layers=layers, base=base), far)
        yield f"parameters at ±{far:g}", False, parameters
        if far == FAR:
            yield f"parameters at ±{far:g}, shuffled vector", True, ends(ParameterModulator.of(shuffled, base=base), far)
            if other is not None:
                theirs = ParameterModulator.of(other, layers=layers, base=base)
                yield f"parameters at ±{far:g}, other trait", True, ends(theirs, far)
            low, high = (replace(base, temperature=plain_temperature(log_probs, each)) for each in parameters)
            yield "temperature at equal entropy", True, (low, high)


def _shuffled(vector: PersonaVector, seed: int) -> PersonaVector:
    """The same entries in another order, with random signs: as long, and about nothing."""
    generator = torch.Generator().manual_seed(fitting_seed(seed))
    order = torch.randperm(vector.d_model, generator=generator)
    signs = torch.randint(0, 2, (vector.d_model,), generator=generator) * 2 - 1
    return replace(vector, directions=vector.directions[:, order] * signs)


def _modulated(
    asked: Asked,
    model: str,
    base: DosePoint,
    inside: Points,
    mode: tuple[str, bool],
    ends: Points,
) -> Modulated:
    bootstrap = QuestionBootstrap(len(asked.questions), asked.samples)

    def share(_places: Any, means: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (means[:, 1] - means[:, 0]) / (means[:, 3] - means[:, 2])

    low, high = ends
    return Modulated(
        mode=mode[0],
        placebo=mode[1],
        trait=asked.trait.name,
        model=model,
        low=low.trait,
        base=base.trait,
        high=high.trait,
        movement=bootstrap.difference(high.trait_scores, low.trait_scores),
        share=bootstrap.over_curve([0, 1, 2, 3], [each.trait_scores for each in (*ends, *inside)], share),
        coherence=min((each.coherence for each in ends if each.coherence is not None), default=None),
    )
