"""Several judges at once: each gives columns of its own, and the scores of an answer are the first that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.judges.calibration import Calibration
from persona_interp.judges.determinants import determinants
from persona_interp.judges.one_each import one_each
from persona_interp.traits.judging import Judge, Judgement, Part
from persona_interp.traits.trait import Trait


class ComposedJudge:
    """Asks every judge about every answer.

    The trait score is that of the first judge that gives an answer one, coherence likewise, so the order of the judges is the
    order of trust; what each gave stands in the parts, under its name.

    Example:
        >>> judge = ComposedJudge([LikelihoodContrastJudge(model), MeasureJudge(model, ["valence"])], ["contrast", "measure"])
        >>> [part.name for part in judge.judge(trait, exchanges)[0].parts]
        ['contrast', 'valence']

    Args:
        judges: at least two.
        labels: what the columns of judges that have no parts of their own are called, one each.

    Raises:
        InvalidInputError: fewer than two judges, or labels that are not one each and different.
    """

    def __init__(self, judges: Sequence[Judge], labels: Sequence[str]) -> None:
        if len(judges) < 2 or len(labels) != len(judges) or len(set(labels)) != len(labels):
            raise InvalidInputError(f"{len(judges)} judges and the labels {list(labels)}: give two judges or more, a label each")
        self.judges, self.labels = tuple(judges), tuple(labels)
        self.model = next((own for judge in judges if (own := getattr(judge, "model", None)) is not None), None)
        self.name = "+".join(judge.name for judge in judges)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        given = [one_each(judge, trait, exchanges) for judge in self.judges]
        parted = [_parted(label, found) for label, found in zip(self.labels, given, strict=True)]
        rows = zip(zip(*given, strict=True), zip(*parted, strict=True), strict=True)
        return [self._joined(row, parts) for row, parts in rows]

    def _joined(self, row: Sequence[Judgement], parted: Sequence[Sequence[Part]]) -> Judgement:
        parts = [part for each in parted for part in each]
        trait, coherence = (
            next((one for found in row if (one := getattr(found, name)) is not None), None) for name in ("trait", "coherence")
        )
        return Judgement(trait, coherence, tuple(parts))

    def calibrations(self, trait: Trait) -> list[Calibration]:
        """Those of its judges."""
        return [found for judge in self.judges for found in calibrations(judge, trait)]

    def determinants(self, trait: Trait) -> list[Any]:
        """Those of all judges."""
        return [list(self.labels), *(determinants(judge, trait) for judge in self.judges)]


def _parted(label: str, found: Sequence[Judgement]) -> list[tuple[Part, ...]]:
    """What one judge gave each answer, as parts: its own, or its scores under its label, the same columns for all."""
    if any(judgement.parts for judgement in found):
        return [judgement.parts for judgement in found]
    coherent = any(judgement.coherence is not None for judgement in found)
    named = not coherent or any(judgement.trait is not None for judgement in found)
    columns = [("trait", label)] * named + [("coherence", f"{label} coherence")] * coherent
    return [tuple(_part(name, getattr(judgement, target)) for target, name in columns) for judgement in found]


def _part(name: str, score: float | None) -> Part:
    return Part(name, score, why="no score" if score is None else "")


def calibrations(judge: Judge, trait: Trait) -> list[Calibration]:
    """The scales a judge's scores are on, whatever stands before it (a guard, a cache); empty for one that has none."""
    own = getattr(judge, "calibrations", None)
    if callable(own):
        found: Any = own(trait)
        return list(found)
    inner: Any = (getattr(judge, name, None) for name in ("inner", "trait_judge", "coherence_judge"))
    return [each for one in inner if one is not None for each in calibrations(one, trait)]
