"""The columns of several judges or measures, one beside the other: what each of them made of the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.sections import Section
from persona_interp.measure.statistics import Estimate
from persona_interp.traits.judging import Judgement

if TYPE_CHECKING:
    from persona_interp.measure.evaluation_scores import EvaluationScores
    from persona_interp.measure.point import DosePoint


def part_scores(judgements: Sequence[Judgement]) -> dict[str, tuple[float | None, ...]]:
    """Name -> a score for each judgement, None where that judge gave none; empty where all come from one judge."""
    names = list(dict.fromkeys(part.name for judgement in judgements for part in judgement.parts))
    rows = [{part.name: part.score for part in judgement.parts} for judgement in judgements]
    return {name: tuple(row.get(name) for row in rows) for name in names}


def reasons(judgements: Sequence[Judgement]) -> dict[str, dict[str, int]]:
    """Name -> why it gave no score -> how many answers; names without a missing score are left out."""
    found: dict[str, Counter[str]] = {}
    for judgement in judgements:
        for part in judgement.parts:
            if part.score is None:
                found.setdefault(part.name, Counter())[_kind(part.why)] += 1
    return {name: dict(counted) for name, counted in found.items()}


def _kind(why: str) -> str:
    """A reason without the number of words of that one answer."""
    number, found, rest = why.partition(" words, and ")
    return rest if found and number.isdigit() else why


def part_names(points: Sequence[DosePoint]) -> tuple[str, ...]:
    """All columns there are, in their order."""
    return tuple(dict.fromkeys(name for point in points for name in point.parts))


def part_mean(bootstrap: QuestionBootstrap, point: DosePoint, name: str) -> Estimate:
    """Mean score of one column; no value where there is none."""
    return bootstrap.mean(point.parts.get(name, (None,) * point.n))


def parts_sections(evaluation: EvaluationScores) -> Iterator[Section]:
    """A table of all columns under every condition, where there is more than one judge."""
    from persona_interp.measure.report import shown

    points = [(f"{point.coefficient:+g}" if point.coefficient else "0", point) for point in evaluation.curve]
    points += [("asked for, unsteered", evaluation.controls.prompted), ("asked against", evaluation.controls.prompted_against)]
    names = part_names([point for _, point in points])
    if not names:
        return
    bootstrap = QuestionBootstrap(len(evaluation.questions), evaluation.samples)
    rows = tuple((label, *(shown(part_mean(bootstrap, point, name)) for name in names)) for label, point in points)
    said = (
        "Each judge or measure by itself, 0 to 100, with 95 % intervals over questions; a measure's scale is what the model's "
        "answers reach, unsteered and prompted. The trait score above is that of the first that gives one, coherence likewise.",
        *_missing([point for _, point in points], names),
    )
    yield Section("Judge by judge", said, ("coefficient", *names), rows)


def _missing(points: Sequence[DosePoint], names: Sequence[str]) -> Iterator[str]:
    """A sentence for each column that lacks scores."""
    total = sum(point.n for point in points)
    for name in names:
        n = sum(point.parts.get(name, (None,) * point.n).count(None) for point in points)
        counted: Counter[str] = Counter()
        for point in points:
            counted.update(point.missing.get(name, {}))
        if n:
            rest = n - counted.total()
            caught = [f"caught by the guard ({rest})"] if rest else []
            why = "; ".join([*(f"{reason} ({count})" for reason, count in counted.most_common()), *caught])
            yield f"{name} has no score for {n} of {total} answers: {why}."
