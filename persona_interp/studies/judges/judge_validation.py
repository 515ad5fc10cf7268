"""The result of `validate_judges`: answers whose truth is known, what judges made of them, and how far that agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.statistics import Estimate
from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record
from persona_interp.studies.judges.agreement import SPLIT, Agreement, agreement, bins

TARGETS = ("trait", "coherence")
CONTROLS = ("length", "shuffled")
NOT_MEASURED = {
    "local": "needs a model that follows rubrics, and no organism does; its arithmetic is tested on planted probabilities",
    "endpoint": "likewise; tested against a scripted server",
}
"""Judge -> why its validity is not measured here."""

Scores = tuple[float | None, ...]
_COLUMNS = ("conditions", "questions", "exact_trait", "exact_coherence")


@dataclass(frozen=True)
class JudgeScores:
    """What one judge gave every answer.

    Attributes:
        judge: its kind: ``contrast``, ``perplexity``, or a control.
        target: ``trait`` or ``coherence``: what its scores are compared with.
        scores: 0-100 each, None where it gave none.
    """

    judge: str
    target: str
    scores: Scores

    @property
    def control(self) -> bool:
        """Whether it is there only to be beaten."""
        return self.judge in CONTROLS


@dataclass(frozen=True)
class GuardCount:
    """How the garbage guard did.

    Attributes:
        garbage: texts made by program that are no answers.
        garbage_caught: of them.
        good: the model's answers with an exact coherence of at least 80, under every condition.
        good_caught: of them.
    """

    garbage: int
    garbage_caught: int
    good: int
    good_caught: int


@dataclass(frozen=True)
class JudgeValidation(Record):
    """Judges against the grammar's truth, on the answers of one model about one trait.

    Attributes:
        trait: which.
        model: which answered, and judged.
        layer: 0-based block that was steered in the steered conditions.
        conditions: under which each answer was given.
        questions: which question each answers.
        exact_trait: the truth, 0-100; None where no whole sentence shows the trait.
        exact_coherence: the truth, 0-100.
        judges: what judges and controls made of the answers.
        guard: what the garbage guard made of them, and of garbage.
        provenance: versions, seed, sampling, settings.
    """

    json_kind = "judge validation"
    json_version = 1
    json_names = ("trait", "model", "layer")

    trait: str
    model: ModelIdentity
    layer: int
    conditions: tuple[str, ...]
    questions: tuple[str, ...]
    exact_trait: Scores
    exact_coherence: Scores
    judges: tuple[JudgeScores, ...]
    guard: GuardCount
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """One for each of `judges`."""
        return tuple(
            agreement(
                each.scores,
                self.truth(each.target),
                questions=self.questions,
                conditions=self.conditions,
                split=SPLIT[each.target],
            )
            for each in self.judges
        )

    def truth(self, target: str) -> Scores:
        """The exact scores of ``trait`` or ``coherence``."""
        return self.exact_trait if target == "trait" else self.exact_coherence

    def of(self, judge: str, target: str) -> Agreement:
        """The agreement of one judge.

        Raises:
            KeyError: it was not measured.
        """
        for each, found in zip(self.judges, self.agreements, strict=True):
            if (each.judge, each.target) == (judge, target):
                return found
        raise KeyError((judge, target))

    def scores_of(self, judge: str, target: str) -> Scores:
        """What one judge gave every answer.

        Raises:
            KeyError: it was not asked.
        """
        for each in self.judges:
            if (each.judge, each.target) == (judge, target):
                return each.scores
        raise KeyError((judge, target))

    def json_items(self) -> dict[str, Any]:
        """Agreements are written beside the scores they follow from."""
        agreements = [
            {
                "judge": each.judge,
                "target": each.target,
                "control": each.control,
                **found.to_json(),
                "bins": bins(each.scores, self.truth(each.target)),
            }
            for each, found in zip(self.judges, self.agreements, strict=True)
        ]
        answers = {name: getattr(self, name) for name in (*_COLUMNS, "judges")}
        measured = {"agreements": agreements, "guard": self.guard, "not_measured": NOT_MEASURED, "answers": answers}
        return {**super().json_items(), **measured, "provenance": self.provenance}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answers, one entry a column."""
        answers = data["answers"]
        columns = [*(answers[name] for name in _COLUMNS), *(judge["scores"] for judge in answers["judges"])]
        if len({len(column) for column in columns}) > 1:
            raise ValueError("the columns under 'answers' are of different lengths")
        return {**data, **answers}


HEADINGS = ("AUROC", "Pearson", "Spearman", "within", "calibration")


def judge_rows(validation: JudgeValidation, target: str) -> list[tuple[str, ...]]:
    """A row for every judge of `target` and for its controls: name, then `HEADINGS` with intervals."""
    return [
        (
            f"*{judged.judge}*" if judged.control else judged.judge,
            *map(str, (found.auroc, found.pearson, found.spearman, found.within)),
            _points(found.calibration_error),
        )
        for judged, found in zip(validation.judges, validation.agreements, strict=True)
        if judged.target == target
    ]


def judges_markdown(validations: Sequence[JudgeValidation]) -> str:
    """A table for each kind of score: how judges agree with the truth, the AUROC of controls, and what the guard caught."""
    lines: list[str] = []
    for target in TARGETS:
        ends = CONTROLS if target == "trait" else (*CONTROLS, "garbage caught", "good answers caught")
        headings = ("model", "trait", f"judge of {target}", *HEADINGS, *ends)
        rows: list[tuple[str, ...]] = []
        for each in validations:
            (judge, *values), *_ = judge_rows(each, target)
            controls = [_two(each.of(control, target).auroc) for control in CONTROLS]
            guard = each.guard
            caught = (f"{guard.garbage_caught} of {guard.garbage}", f"{guard.good_caught} of {guard.good}")
            cells = (each.model.name.removeprefix("organism-"), each.trait, judge, *values, *controls)
            rows.append((*cells, *caught) if target == "coherence" else cells)
        for judge in NOT_MEASURED:
            rows.append(("all", "all", judge, "not measured here", *[""] * (len(headings) - 4)))
        lines += [*markdown_table(headings, rows), ""]
    return "\n".join(lines)


def _two(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"


def _points(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    return f"{estimate.value:.0f}" + ("" if estimate.low is None else f" [{estimate.low:.0f}, {estimate.high:.0f}]")
