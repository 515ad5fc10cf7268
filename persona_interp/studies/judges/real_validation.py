"""The result of `validate_on_real`: what judges make of answers asked for a trait and against it, where nothing is exact."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.judges.trial import ENOUGH
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.statistics import Estimate, auroc
from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record
from persona_interp.studies.judges.real_answers import AGAINST, FOR

FEW_MISSING = 0.25
"""Share of answers that a judge may leave without a score and still be used."""

Scores = tuple[float | None, ...]


@dataclass(frozen=True)
class Column:
    """What one judge gave every answer.

    Attributes:
        judge: ``contrast``, ``local``, or the name of a measure.
        speaks: whether it is meant to speak for the trait: a measure that the trait names, or a judge of any trait.
        scores: of every answer; a measure's values in its own unit, with their sign turned where low ones speak for the trait.
            None where it gave none.
    """

    judge: str
    speaks: bool
    scores: Scores


@dataclass(frozen=True)
class Damaged:
    """What a measure of coherence gave unsteered answers, whole and damaged.

    Attributes:
        judge: the measure.
        whole: one value an answer.
        damaged: of the same answers, damaged in the way that it is to notice.
    """

    judge: str
    whole: Scores
    damaged: Scores


@dataclass(frozen=True)
class RealValidation(Record):
    """Judges of one trait on the answers of one model, some asked for the trait and some asked against it.

    Attributes:
        trait: which.
        model: which answered, and judged for ``contrast`` and ``local``.
        questions: which question each answer is to.
        conditions: ``asked for`` or ``asked against``, one an answer.
        columns: a judge each.
        coherence: measures of coherence.
        not_measured: judge -> why it was not asked.
        provenance: versions, seed, sampling.
    """

    json_kind = "judge validation on a real model"

    trait: str
    model: ModelIdentity
    questions: tuple[str, ...]
    conditions: tuple[str, ...]
    columns: tuple[Column, ...]
    coherence: tuple[Damaged, ...]
    not_measured: Mapping[str, str] = field(default_factory=dict[str, str])
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def of(self, judge: str) -> Column:
        """The column of one judge.

        Raises:
            KeyError: it was not asked.
        """
        for column in self.columns:
            if column.judge == judge:
                return column
        raise KeyError(judge)

    def auroc(self, judge: str) -> Estimate:
        """How often an answer asked for the trait scores above one asked against it; .5 by chance. Without missing scores."""
        return self._areas[judge]

    @cached_property
    def _areas(self) -> dict[str, Estimate]:
        return {column.judge: self._area(column.scores) for column in self.columns}

    def shuffled(self, judge: str) -> Estimate:
        """The same of the judge's own scores dealt out at random."""
        dealt = list(self.of(judge).scores)
        random.Random(0).shuffle(dealt)
        return self._area(dealt)

    def _area(self, scores: Sequence[float | None]) -> Estimate:
        known = [(condition, score) for condition, score in zip(self.conditions, scores, strict=True) if score is not None]
        sides = ([score for own, score in known if own == condition] for condition in (FOR, AGAINST))
        return auroc(*sides)

    def spearman(self, one: str, other: str) -> float | None:
        """Rank correlation of two judges within each condition, mean of both; None where either does not vary in one of them."""
        from scipy.stats import spearmanr

        found: list[float] = []
        for condition in (FOR, AGAINST):
            rows = zip(self.conditions, self.of(one).scores, self.of(other).scores, strict=True)
            pairs = [(x, y) for own, x, y in rows if own == condition and x is not None and y is not None]
            if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
                return None
            ours, theirs = zip(*pairs, strict=True)
            result: Any = spearmanr(ours, theirs)
            found.append(float(result.statistic))
        return sum(found) / len(found)

    def n_missing(self, judge: str) -> int:
        """Answers it gave no score."""
        return self.of(judge).scores.count(None)

    def used(self, judge: str) -> bool:
        """Whether claims may rest on it: it reaches an AUROC of .8, and scores at least three quarters of the answers."""
        value = self.auroc(judge).value
        return value is not None and value >= ENOUGH and self.n_missing(judge) <= FEW_MISSING * len(self.conditions)

    def coherence_auroc(self, judge: str) -> Estimate:
        """How often a damaged answer measures above a whole one."""
        found = next(each for each in self.coherence if each.judge == judge)
        damaged, whole = ([value for value in side if value is not None] for side in (found.damaged, found.whole))
        return auroc(damaged, whole)

    def json_items(self) -> dict[str, Any]:
        """What follows from the scores is written before them."""
        names = [column.judge for column in self.columns]
        judges = [
            {
                "judge": column.judge,
                "speaks": column.speaks,
                "auroc": self.auroc(column.judge).to_json(),
                "shuffled": self.shuffled(column.judge).value,
                "n_missing": self.n_missing(column.judge),
                "used": self.used(column.judge),
                "spearman_within": {other: self.spearman(column.judge, other) for other in names if other != column.judge},
            }
            for column in self.columns
        ]
        coherence = [{"judge": each.judge, "auroc": self.coherence_auroc(each.judge).to_json()} for each in self.coherence]
        return {"trait": self.trait, "judges": judges, "judges_of_coherence": coherence, **super().json_items()}


REAL_HEADINGS = ("judge", "AUROC", "shuffled", "rank correlation with contrast", "without a score", "used for claims")


def real_rows(found: RealValidation) -> list[tuple[str, ...]]:
    """A row for every judge that is meant to speak for the trait, and for length, which is a control where it is not."""
    rows: list[tuple[str, ...]] = []
    for column in found.columns:
        judge = column.judge
        if not column.speaks and judge != "length":
            continue
        beside = None if judge == "contrast" else found.spearman(judge, "contrast")
        rows.append(
            (
                judge if column.speaks else f"*{judge}*",
                str(found.auroc(judge)),
                _two(found.shuffled(judge).value),
                _two(beside) if judge != "contrast" else "",
                f"{found.n_missing(judge)} of {len(column.scores)}",
                ("yes" if found.used(judge) else "no") if column.speaks else "control",
            )
        )
    return rows


def real_markdown(validations: Sequence[RealValidation]) -> str:
    """The table of judges of a trait, and the table of measures of coherence."""
    rows = [(each.model.name, each.trait, *row) for each in validations for row in real_rows(each)]
    rows += [
        (each.model.name, each.trait, judge, f"not measured: {why}", "", "", "", "no")
        for each in validations
        for judge, why in each.not_measured.items()
    ]
    lines = [*markdown_table(("model", "trait", *REAL_HEADINGS), rows), ""]
    measures = list(dict.fromkeys(measure.judge for each in validations for measure in each.coherence))
    broken = [
        (each.model.name, each.trait, *(str(each.coherence_auroc(measure)) for measure in measures)) for each in validations
    ]
    headings = ("model", "trait", *(f"{measure}: damaged above whole" for measure in measures))
    return "\n".join([*lines, *markdown_table(headings, broken), ""])


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
