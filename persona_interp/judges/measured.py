"""A judge that only measures: no language model reads the answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.judges.calibration import Calibration, calibration_of, settings
from persona_interp.judges.measure import MEASURES, Measure
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.judging import Judgement, Part
from persona_interp.traits.trait import Trait


class MeasureJudge:
    """Scores answers by measures, each on the scale of the model's own answers (`Calibration`).

    The trait score is that of the first measure that speaks for the trait (`Trait.measures`), coherence that of the first measure
    of coherence; every measure is a part of its own beside them. A measure that the trait does not name is a part alone: how glad
    an answer is says nothing of how honest it is. One that has no value for an answer gives it no score, and says why.

    Example:
        >>> judge = MeasureJudge(model, ["valence", "errors"])
        >>> judge.judge(trait, [("How are you?", "I am in a wonderful mood today, thank you!")])[0].parts[0]
        Part(name='valence', score=96.0, value=0.78, why='')

    Args:
        model: the model that answered, unsteered.
        names: of measures; empty: those that speak for the trait judged.

    Raises:
        UnknownNameError: there is no such measure.
        InvalidInputError: one is named twice.
    """

    def __init__(self, model: SteerableModel, names: Sequence[str] = ()) -> None:
        self.model = model
        if len(set(names)) != len(names):
            raise InvalidInputError(f"measures are {', '.join(names)}: name each once")
        self.measures = tuple(MEASURES.find(name) for name in names)
        self.name = "+".join(f"measure:{name}" for name in names) or "measure"
        for measure in self.measures:
            _warn(measure)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        measures = self.of(trait)
        if not exchanges:
            return []
        scales = [calibration_of(measure, self.model, trait) for measure in measures]
        rows = [[_part(*pair, answer) for pair in zip(measures, scales, strict=True)] for _, answer in exchanges]
        return [_judgement(trait, measures, parts) for parts in rows]

    def of(self, trait: Trait) -> tuple[Measure, ...]:
        """The measures that answers are put to when `trait` is judged: those named, else those that speak for it."""
        return self.measures or tuple(MEASURES.find(name) for name in trait.measure_signs)

    def check(self, trait: Trait) -> None:
        """Say if it has no score to give for `trait`.

        Raises:
            InvalidInputError: no measure is named, and none speaks for the trait.
        """
        if not self.of(trait):
            raise InvalidInputError(
                f"no measure speaks for the trait {trait.name!r}: list some under 'measures' in the trait's file, or name one as "
                f"a column of its own beside another judge, as in contrast+measure:NAME ({', '.join(MEASURES)})"
            )
        for measure in self.of(trait):
            if measure.target == "trait" and measure.name not in trait.measure_signs:
                say(
                    f"warning: the trait {trait.name!r} does not name the measure {measure.name!r}: it is a column of its own "
                    "and gives no trait score. List it under 'measures' in the trait's file if it speaks for the trait"
                )

    def calibrations(self, trait: Trait) -> list[Calibration]:
        """The scales of its measures."""
        return [calibration_of(measure, self.model, trait) for measure in self.of(trait)]

    def determinants(self, trait: Trait) -> list[Any]:
        """What its scores depend on besides the texts."""
        return [["measure", settings(self.model, trait, each), each.installed() == ""] for each in self.of(trait)]


def _part(measure: Measure, scale: Calibration, answer: str) -> Part:
    reading = measure.read(answer)
    if reading.value is None:
        return Part(measure.name, None, why=reading.why)
    return Part(measure.name, scale.score(reading.value), reading.value, scale.why)


def _judgement(trait: Trait, measures: Sequence[Measure], parts: Sequence[Part]) -> Judgement:
    found = list(zip(measures, parts, strict=True))
    speaking = (part.score for measure, part in found if measure.target == "trait" and measure.name in trait.measure_signs)
    coherence = (part.score for measure, part in found if measure.target == "coherence")
    return Judgement(next(speaking, None), next(coherence, None), tuple(parts))


@cache
def _warn(measure: Measure) -> None:
    if why := measure.installed():
        say(f"warning: {why}. Its scores are missing until then")
