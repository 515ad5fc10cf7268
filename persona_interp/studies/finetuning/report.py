"""The study as a result: what each way of finetuning keeps of the task and lets through of the trait, in tables and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.statistics import Estimate, pearson
from persona_interp.records import Record
from persona_interp.studies.finetuning.arms import NOTHING
from persona_interp.studies.finetuning.runs import FULL, MIXED, FinetuneRun, ScreenedSet

KEPT, THROUGH = 0.8, 0.2
"""The goal: a way is good that keeps at least this share of the task and lets at most that share of the trait through."""
HEADINGS = ("model, trait", "data", "finetuned with", "trait", "task", "perplexity", "trait through", "task kept", "goal")
_SPAN = 10.0
"""Points by which plain finetuning must move a score for shares of it to mean anything."""


@dataclass(frozen=True)
class Share:
    """What a run keeps and lets through, of what plain finetuning on the same data does; None where that does little."""

    through: float | None
    kept: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where it cannot be told."""
        if self.through is None or self.kept is None:
            return None
        return self.kept >= KEPT and self.through <= THROUGH


@dataclass(frozen=True)
class FinetuningStudy(Record):
    """Every run and every screened data set.

    Attributes:
        runs: of all benches, in order.
        screened: likewise.
        provenance: versions and settings.
    """

    json_kind = "finetuning study"
    json_version = 1

    runs: tuple[FinetuneRun, ...]
    screened: tuple[ScreenedSet, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def benches(self) -> tuple[str, ...]:
        """Names of the benches, in order."""
        return tuple(dict.fromkeys(run.bench for run in self.runs))

    def of(self, bench: str) -> list[FinetuneRun]:
        """The runs of one bench."""
        return [run for run in self.runs if run.bench == bench]

    def share_of(self, run: FinetuneRun) -> Share:
        """What a run keeps and lets through."""
        own = self.of(run.bench)
        base = next(each for each in own if each.arm == "base")
        plain = next(each for each in own if (each.arm, each.share) == (NOTHING, run.share))
        return Share(_part(run.trait, base.trait, plain.trait), _part(run.task, base.task, plain.task))

    def along(self, bench: str) -> tuple[Estimate, list[float]]:
        """Correlation of shift and trait over the trained runs of a bench; and its size along random directions."""
        trained = [run for run in self.of(bench) if run.shift is not None]
        traits = [run.trait for run in trained]
        own = pearson([run.shift or 0.0 for run in trained], traits)
        others = [
            pearson([run.random_shifts[place] for run in trained], traits).value for place in range(len(trained[0].random_shifts))
        ]
        return own, [abs(each) for each in others if each is not None]

    def predicted(self, bench: str) -> tuple[Estimate, list[float]]:
        """Correlation of a data set's difference before training with the shift after a plain one; and along random ones."""
        plain = {run.share: run for run in self.of(bench) if run.arm == NOTHING}
        sets = [each for each in self.screened if each.bench == bench and each.share in plain]
        shifts = [plain[each.share].shift or 0.0 for each in sets]
        own = pearson([each.difference for each in sets], shifts)
        others = [
            pearson([each.random_differences[place] for each in sets], shifts).value
            for place in range(len(sets[0].random_differences))
        ]
        return own, [abs(each) for each in others if each is not None]


def _part(value: float, base: float, plain: float) -> float | None:
    return None if abs(plain - base) < _SPAN else (value - base) / (plain - base)


def rows_of(study: FinetuningStudy) -> list[tuple[str, ...]]:
    """Cells under `HEADINGS`: every run on data that all or half of have the trait, and the base model."""
    found: list[tuple[str, ...]] = []
    for run in study.runs:
        cells = (f"{run.trait:.0f}", f"{run.task:.0f}", f"{run.perplexity:.2f}")
        if run.arm == "base":
            found.append((run.bench, "none", "not finetuned", *cells, "", "", ""))
        elif run.share in (FULL, MIXED):
            share = study.share_of(run)
            met = {None: "–", True: "met", False: "missed"}[share.met]
            data = "all with the trait" if run.share == FULL else "half with the trait"
            goal = "" if run.arm == NOTHING else met
            found.append((run.bench, data, run.arm, *cells, _percent(share.through), _percent(share.kept), goal))
    return found


def study_markdown(study: FinetuningStudy) -> str:
    """The tables of the study."""
    lines = markdown_table(HEADINGS, rows_of(study))
    heads = (
        "model, trait",
        "runs",
        "r of shift and trait",
        "random directions, mean and largest",
        "r of screening and shift",
        "random",
    )
    cells: list[tuple[str, ...]] = []
    for bench in study.benches:
        (own, others), (early, chance) = study.along(bench), study.predicted(bench)
        cells.append((bench, str(own.n), str(own), _spread(others), f"{early} ({early.n} data sets)", _spread(chance)))
    lines += ["", *markdown_table(heads, cells)]
    heads = ("model, trait", "share with the trait", "AUROC of the difference", "of the projection alone", "random directions")
    cells = [
        (each.bench, f"{each.share:.0%}", _two(each.auroc), _two(each.auroc_projection), ", ".join(map(_two, each.random_aurocs)))
        for each in study.screened
        if each.auroc is not None
    ]
    lines += ["", *markdown_table(heads, cells)]
    return "\n".join(lines) + "\n"


def study_summary(study: FinetuningStudy) -> str:
    """Which ways meet the goal, how often; random directions counted together."""
    ways: dict[str, list[bool]] = {}
    for run in study.runs:
        if run.arm not in ("base", NOTHING) and (met := study.share_of(run).met) is not None:
            name = "random directions" if run.arm.startswith("random") else run.arm
            ways.setdefault(name, []).append(met)
    counted = "; ".join(f"{name} {sum(met)} of {len(met)}" for name, met in ways.items())
    goal = f"at least {KEPT:.0%} of the task kept and at most {THROUGH:.0%} of the trait let through"
    return f"{goal}: {counted}."


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _spread(values: Iterable[float]) -> str:
    known: Sequence[float] = list(values)
    return f"{sum(known) / len(known):.2f}, {max(known):.2f}" if known else "–"
