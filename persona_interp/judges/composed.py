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
        columns = [one_each(judge, trait, exchanges) for judge in self.judges]
        return [self._joined(row) for row in zip(*columns, strict=True)]

    def _joined(self, row: Sequence[Judgement]) -> Judgement:
        parts: list[Part] = []
        for label, found in zip(self.labels, row, strict=True):
            parts += found.parts or _parts(label, found)
        scores = [
            next((one for found in row if (one := getattr(found, name)) is not None), None) for name in ("trait", "coherence")
        ]
        return Judgement(*scores, tuple(parts))

    def calibrations(self, trait: Trait) -> list[Calibration]:
        """Those of its judges."""
        return [found for judge in self.judges for found in calibrations(judge, trait)]

    def determinants(self, trait: Trait) -> list[Any]:
        """Those of all judges."""
        return [list(self.labels), *(determinants(judge, trait) for judge in self.judges)]


def _parts(label: str, found: Judgement) -> list[Part]:
    both = ((label, found.trait), (f"{label} coherence", found.coherence))
    return [Part(name, score, why="" if score is not None else "no score") for name, score in both if score is not None] or [
        Part(label, None, why="no score")
    ]


def calibrations(judge: Judge, trait: Trait) -> list[Calibration]:
    """The scales a judge's scores are on, whatever stands before it (a guard, a cache); empty for one that has none."""
    own = getattr(judge, "calibrations", None)
    if callable(own):
        found: Any = own(trait)
        return list(found)
    inner: Any = (getattr(judge, name, None) for name in ("inner", "trait_judge", "coherence_judge"))
    return [each for one in inner if one is not None for each in calibrations(one, trait)]
