"""A reproduction in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.report import shown
from persona_interp.measure.sections import Section
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.studies.reproduction.claims import claims
from persona_interp.studies.reproduction.estimate import Step
from persona_interp.studies.reproduction.modulation_bench import HEADINGS as MODULATION_HEADINGS
from persona_interp.studies.reproduction.modulation_bench import modulation_rows, modulation_summary
from persona_interp.studies.reproduction.results import Reproduction


def title(found: Reproduction) -> str:
    """The report's heading."""
    return f"Reproduction: {found.preset['name']}"


def sections(found: Reproduction) -> tuple[Section, ...]:
    """Every part of the report, in order."""
    made = claims(found)
    minutes = sum(found.seconds.values()) / 60
    return (
        Section(
            "Claims",
            ("Intervals are 95 %, from a bootstrap over questions.",),
            ("claim", "holds", "measured"),
            tuple((claim.claim, claim.holds, claim.measured) for claim in made),
        ),
        Section("Extraction and layers", (), *_extracted(found)),
        Section(
            "Doses",
            (
                "Each vector in its own model, at the layer named above: mean scores (coherence) at each coefficient, r over all "
                "of them, and the coefficients around 0 that keep coherence at 70 or more.",
            ),
            *_doses(found.evaluations),
        ),
        Section(
            "Transfers",
            (
                "Recovery: slope under the carried vector over that under the target's own, at equal perturbation ratios; a dash "
                "where the target's own vector moves the score by less than 20 points.",
            ),
            *_transfers(found.transfers),
        ),
        *_modulated(found),
        Section("Where this comes from", (f"{len(found.seconds)} steps, {minutes:.0f} minutes in all.",), *_origin(found)),
    )


def _extracted(found: Reproduction) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = tuple(
        (each.model, each.trait, str(each.layer), "–" if each.ratio is None else f"{each.ratio:.2f}", each.reason)
        for each in found.extracted
    )
    return ("model", "trait", "layer", "x resid at 1", "why"), rows


def _doses(evaluations: Sequence[Evaluation]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    if not evaluations:
        return (), ()
    doses = [point.coefficient for point in evaluations[0].curve]

    def rows() -> Iterator[tuple[str, ...]]:
        for each in evaluations:
            scores = [f"{_whole(point.trait)} ({_whole(point.coherence)})" for point in each.curve]
            within = each.coherent_range
            span = "–" if within is None else f"{within.low:g} to {within.high:g}"
            yield (each.model, each.trait, *scores, shown(each.pearson, 2), span)

    headings = ("model", "trait", *(f"{dose:+g}" if dose else "0" for dose in doses), "r", "coherent")
    return headings, tuple(rows())


def _transfers(transfers: Sequence[TransferEvaluation]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    methods = list(dict.fromkeys(curve.method for each in transfers for curve in each.carried))
    controls = list(dict.fromkeys(name for each in transfers for name in each.control_recoveries))

    def rows() -> Iterator[tuple[str, ...]]:
        for each in transfers:
            carried = {curve.method: shown(each.recovery_of(curve.points), 2) for curve in each.carried}
            beside = each.control_recoveries
            values = [_two(beside[name].value if name in beside else None) for name in controls]
            yield (each.source, each.target, each.trait, *(carried.get(method, "–") for method in methods), *values, each.verdict)

    return ("source", "target", "trait", *methods, *controls, "verdict"), tuple(rows())


def _modulated(found: Reproduction) -> Iterator[Section]:
    if found.modulations:
        yield Section(
            "GGUF and black box",
            (
                "The first model as a GGUF file: a control vector from inside, then what can be done from outside, and placebos. "
                + modulation_summary(found.modulations),
            ),
            MODULATION_HEADINGS,
            modulation_rows(found.modulations),
        )


def _origin(found: Reproduction) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    steps = tuple((name.replace("_", " "), f"{seconds:.0f}") for name, seconds in found.seconds.items())
    return ("step", "seconds"), steps


def plan_section(steps: Sequence[Step], machine: str) -> Section:
    """A plan as a table, with totals."""
    rows = [_planned(step) for step in steps]
    total = Step(
        "all",
        sum(step.generated for step in steps),
        sum(step.read for step in steps),
        max(step.memory for step in steps),
        sum(step.disk for step in steps),
        sum(step.seconds for step in steps),
    )
    said = f"Estimated for {machine}. Memory is the largest step's; answers that stop early make it faster."
    return Section("Plan", (said,), ("step", "tokens drawn", "tokens read", "memory", "disk", "time"), (*rows, _planned(total)))


def _planned(step: Step) -> tuple[str, ...]:
    counts = [f"{value / 1e6:.2f} M" if value else "–" for value in (step.generated, step.read)]
    sizes = [_bytes(value) for value in (step.memory, step.disk)]
    return (step.name, *counts, *sizes, _time(step.seconds))


def _bytes(value: float) -> str:
    if not value:
        return "–"
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
