"""The scale of a measure: which of its values score 0 and 100, read off the model's own unsteered and prompted answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.judges.measure import Measure
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.records import Record
from persona_interp.storage import home
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait

N_QUESTIONS = 20
SAMPLING = Sampling()
SEED = 20_261_130
ENDS = (0.05, 0.95)
"""Quantiles of the model's own values that score 0 and 100."""
_FEWEST = 10
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Calibration(Record):
    """What the values of a measure are worth in one model, for one trait.

    A measure of a trait scores 0 at one end (the 5 % quantile) and 100 at the other (95 %) of what the model's answers to the
    trait's extraction questions measure, unsteered, asked for the trait and asked against it together; linear in between, cut off
    beyond. So 0 and 100 are about as far as the model goes by itself. Where the two quantiles are one, as of words that are
    seldom said, the extremes stand in for them.

    A measure of coherence scores 100 up to what 95 % of the unsteered answers stay below, and 0 from the median of the same
    answers damaged in the way that the measure is to notice.

    Attributes:
        measure: its name.
        trait: whose questions and instructions.
        model: name of the model.
        zero: value that scores 0; None where there is no scale.
        hundred: value that scores 100. Less than `zero` where low values speak for the trait.
        unsteered: median value of the model's answers without any system prompt; None where none has a value.
        asked_for: likewise under the trait's positive instructions; None for a measure of coherence.
        asked_against: likewise under its negative ones.
        n: answers with a value.
        why: why there is no scale; empty where there is one.
    """

    json_kind = "calibration"

    measure: str
    trait: str
    model: str
    zero: float | None
    hundred: float | None
    unsteered: float | None
    asked_for: float | None
    asked_against: float | None
    n: int
    why: str = ""

    def score(self, value: float) -> float | None:
        """0 to 100; None where there is no scale."""
        if self.zero is None or self.hundred is None:
            return None
        return 100.0 * min(1.0, max(0.0, (value - self.zero) / (self.hundred - self.zero)))


@dataclass(frozen=True)
class OwnAnswers:
    """A model's answers to the extraction questions of a trait, unsteered."""

    unsteered: tuple[str, ...]
    asked_for: tuple[str, ...]
    asked_against: tuple[str, ...]


def settings(model: SteerableModel, trait: Trait, measure: Measure) -> dict[str, Any]:
    """All that a calibration depends on, but for the version of the measure's library."""
    pairs = [[pair.positive, pair.negative] for pair in trait.instructions] if measure.target == "trait" else []
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "source": measure.source,
        "sign": trait.measure_signs.get(measure.name, 1),
        "model": model.identity.fingerprint,
        "questions": list(trait.extraction_questions[:N_QUESTIONS]),
        "instructions": pairs,
        "made": [FORMAT_VERSION, SAMPLING.to_json(), SEED, list(ENDS)],
    }


def calibration_of(measure: Measure, model: SteerableModel, trait: Trait) -> Calibration:
    """The scale of `measure`; made once, kept under `storage.home`. Costs sixty answers, shared by a trait's measures."""
    store = JsonlStore(home() / "judgements" / "calibrations.jsonl")
    key = content_key("calibration", settings(model, trait, measure))
    if key in store:
        return Calibration.from_json(store.get(key), source=str(store.path))
    missing = measure.installed()
    found = _no_scale(measure, model, trait, missing) if missing else calibrate(measure, model, trait, own_answers(model, trait))
    if not missing:
        store.put(key, found.to_json())
    return found


def calibrate(measure: Measure, model: SteerableModel, trait: Trait, own: OwnAnswers) -> Calibration:
    """The scale of `measure` from answers that are there."""
    if measure.damage is not None:
        return _coherence_scale(measure, model, trait, own)
    sides = [_values(measure, texts) for texts in (own.unsteered, own.asked_for, own.asked_against)]
    pooled = [value for side in sides for value in side]
    medians = [median(side) if side else None for side in sides]
    if len(pooled) < _FEWEST:
        why = f"only {len(pooled)} of the answers of {model.name} have a {measure.name}"
        return Calibration(measure.name, trait.name, model.name, None, None, *medians, n=len(pooled), why=why)
    low, high = (float(np.quantile(pooled, end)) for end in ENDS)
    if low == high:
        low, high = min(pooled), max(pooled)
    if low == high:
        why = f"all answers of {model.name}, prompted or not, have the {measure.name} {low:g}: no scale can be read off them"
        return Calibration(measure.name, trait.name, model.name, None, None, *medians, n=len(pooled), why=why)
    if trait.measure_signs.get(measure.name, 1) < 0:
        low, high = high, low
    return Calibration(measure.name, trait.name, model.name, low, high, *medians, n=len(pooled))


def _coherence_scale(measure: Measure, model: SteerableModel, trait: Trait, own: OwnAnswers) -> Calibration:
    damage: Callable[[str, random.Random], str] = measure.damage or (lambda text, _: text)
    whole = _values(measure, own.unsteered)
    broken = _values(measure, [damage(text, random.Random(f"{SEED}/{text}")) for text in own.unsteered])
    hundred, zero = (float(np.quantile(whole, ENDS[1])) if whole else None), (median(broken) if broken else None)
    usual = median(whole) if whole else None
    if hundred is None or zero is None or len(whole) < _FEWEST or zero <= hundred:
        why = (
            f"{measure.name} cannot tell the answers of {model.name} from the same answers damaged: it says nothing of coherence"
        )
        return Calibration(measure.name, trait.name, model.name, None, None, usual, None, None, n=len(whole), why=why)
    return Calibration(measure.name, trait.name, model.name, zero, hundred, usual, None, None, n=len(whole))


def _values(measure: Measure, texts: Sequence[str]) -> list[float]:
    return [value for text in texts if (value := measure.read(text).value) is not None]


def _no_scale(measure: Measure, model: SteerableModel, trait: Trait, why: str) -> Calibration:
    return Calibration(measure.name, trait.name, model.name, None, None, None, None, None, n=0, why=why)


_KNOWN: WeakKeyDictionary[SteerableModel, dict[Any, OwnAnswers]] = WeakKeyDictionary()


def own_answers(model: SteerableModel, trait: Trait) -> OwnAnswers:
    """The answers a scale is read off; made once for a model in memory, as one batched generation."""
    questions = trait.extraction_questions[:N_QUESTIONS]
    known = _KNOWN.setdefault(model, {})
    key = (questions, trait.instructions)
    if key not in known:
        pairs = [trait.instructions[place % len(trait.instructions)] for place in range(len(questions))]
        systems = [*(None for _ in pairs), *(pair.positive for pair in pairs), *(pair.negative for pair in pairs)]
        asked = [Conversation.ask(question, system) for question, system in zip(questions * 3, systems, strict=True)]
        seeds = [derived_seed(f"{SEED}/{question}") for question in questions] * 3
        texts = [answer.text for answer in model.generate(asked, sampling=SAMPLING, seed=seeds)]
        n = len(questions)
        known[key] = OwnAnswers(tuple(texts[:n]), tuple(texts[n : 2 * n]), tuple(texts[2 * n :]))
    return known[key]
