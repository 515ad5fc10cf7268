"""An `Evaluation` in words and tables: a verdict, what was measured, and Markdown. The HTML page shows the same sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from persona_interp.measure.evaluation_scores import EvaluationScores
from persona_interp.measure.parts import parts_sections
from persona_interp.measure.point import DosePoint
from persona_interp.measure.sections import Section, sections_markdown
from persona_interp.measure.statistics import Estimate
from persona_interp.measure.verdict import verdict


def markdown(evaluation: EvaluationScores) -> str:
    """The whole report as Markdown."""
    return sections_markdown(title(evaluation), sections(evaluation))


def title(evaluation: EvaluationScores) -> str:
    """The report's heading."""
    return f"{evaluation.trait} in {evaluation.model}: the vector {evaluation.vector!r}, evaluated"


def sections(evaluation: EvaluationScores) -> tuple[Section, ...]:
    """Every part of the report, in order."""
    return (
        Section("Verdict", (verdict(evaluation), *evaluation.notes)),
        Section("Dose and response", _explained(evaluation), result_headings(evaluation), tuple(result_rows(evaluation))),
        *parts_sections(evaluation),
        Section("Controls", _controls_explained(evaluation), *_controls(evaluation)),
        Section("Over all coefficients", _over_all_explained(evaluation), ("statistic", "estimate"), _over_all(evaluation)),
        Section("Examples", (), ("coefficient", "question", "answer"), tuple(_examples(evaluation))),
        Section("Where this comes from", (), ("what", "value"), tuple(_origin(evaluation))),
    )


def shown(estimate: Estimate, digits: int = 0) -> str:
    """``89 [80, 95]``; a dash where there is no value, the value alone where there is no interval."""
    if estimate.value is None:
        return "–"
    value = _number(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{_number(estimate.low, digits)}, {_number(estimate.high, digits)}]"


def result_headings(evaluation: EvaluationScores) -> tuple[str, ...]:
    """Of the table of `result_rows`."""
    return ("coefficient", "ratio", evaluation.trait, "coherence", "random", evaluation.controls.other_vector.name)


def result_rows(evaluation: EvaluationScores) -> Iterator[tuple[str, ...]]:
    """One a coefficient, the unsteered model among them."""
    for point in evaluation.curve:
        steered = point.coefficient != 0
        other = evaluation.controls.other_vector.at(point.coefficient)
        yield (
            f"{point.coefficient:+g}" if steered else "0",
            _plain(point.perturbation_ratio, 2),
            shown(evaluation.trait_score(point)),
            shown(evaluation.coherence(point)),
            _spread(evaluation.random_scores(point.coefficient)) if steered else "",
            _plain(None if other is None else other.trait) if steered else "",
        )


def _spread(scores: Sequence[float]) -> str:
    if not scores:
        return "–"
    low, mean, high = (_number(value) for value in (min(scores), fmean(scores), max(scores)))
    return mean if len(scores) == 1 else f"{mean} ({low} to {high})"


def _explained(evaluation: EvaluationScores) -> tuple[str, ...]:
    n, samples = len(evaluation.questions), evaluation.samples
    answers = f"{n} questions" if samples == 1 else f"{n} questions, {samples} answers to each"
    n_random, other = len(evaluation.controls.random), evaluation.controls.other_vector.name
    return (
        f"Scores from 0 to 100 by the judge {evaluation.judge!r}, means over {answers}, with 95 % intervals from a bootstrap "
        f"over questions. ratio: |coefficient * v| / mean |h|. random: {n_random} random directions of the same norms, mean "
        f"(lowest to highest). {other}: another trait's vector, brought to the same norms and scored for {evaluation.trait}. "
        "An interval without width says that all questions scored alike, not that others would.",
    )


def _controls_explained(evaluation: EvaluationScores) -> tuple[str, ...]:
    name, trait = evaluation.controls.other_trait.name, evaluation.trait
    return (
        f"change: points between the unsteered answers and these, question by question. The prompts are the trait's own system "
        f"prompts without steering. The last rows score the steered answers for {name!r} instead of {trait!r}: a vector that is "
        "specific leaves it alone, unless the two traits exclude each other.",
    )


def _controls(evaluation: EvaluationScores) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    controls = evaluation.controls
    listed: list[tuple[str, str, DosePoint, DosePoint]] = [
        ("unsteered", evaluation.trait, controls.baseline, controls.baseline),
        ("prompted for it", evaluation.trait, controls.prompted, controls.baseline),
        ("prompted against it", evaluation.trait, controls.prompted_against, controls.baseline),
    ]
    for curve in (*controls.random, controls.other_vector):
        listed += [(f"{curve.name} at {p.coefficient:+g}", evaluation.trait, p, controls.baseline) for p in curve.points]
    for point in controls.other_trait.points:
        what = "unsteered" if point.coefficient == 0 else f"{evaluation.vector} at {point.coefficient:+g}"
        listed.append((what, controls.other_trait.name, point, evaluation.other_baseline))
    rows = tuple(
        (
            what,
            trait,
            shown(evaluation.trait_score(point)),
            "" if point is base else shown(evaluation.change(point, base)),
            shown(evaluation.coherence(point)),
        )
        for what, trait, point, base in listed
    )
    return ("condition", "scored for", "score", "change", "coherence"), rows


def _over_all_explained(evaluation: EvaluationScores) -> tuple[str, ...]:
    found = evaluation.coherent_range
    usable = (
        "Which coefficients are coherent is not known."
        if found is None
        else f"Coherence stays at {found.threshold:g} or above from {found.low:g} to {found.high:g}, as far as was measured."
    )
    return (f"{usable} The statistics are over all coefficients and the unsteered model at 0, incoherent ones included.",)


def _over_all(evaluation: EvaluationScores) -> tuple[tuple[str, ...], ...]:
    return (
        ("slope, points per unit of coefficient", shown(evaluation.slope, 1)),
        ("slope, points per unit of perturbation ratio", shown(evaluation.slope_per_ratio, 1)),
        ("Spearman, coefficient and mean score", shown(evaluation.spearman, 2)),
        ("Pearson, likewise", shown(evaluation.pearson, 2)),
    )


def _examples(evaluation: EvaluationScores) -> Iterator[tuple[str, ...]]:
    for question_number, question in enumerate(evaluation.questions):
        for point in evaluation.curve:
            if question_number < len(point.examples):
                yield (f"{point.coefficient:+g}" if point.coefficient else "0", question, point.examples[question_number])


def _origin(evaluation: EvaluationScores) -> Iterator[tuple[str, ...]]:
    record = evaluation.provenance
    yield "layers steered (0-based)", ", ".join(map(str, evaluation.layers))
    yield "positions steered", evaluation.positions
    for name in ("seed", "sampling", "model", "versions", "created", "command"):
        if name in record:
            value = record[name]
            yield name, ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


def _plain(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else _number(value, digits)


def _number(value: float, digits: int = 0) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text
