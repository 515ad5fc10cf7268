"""What is said of transfers between the organisms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.models.registry import shipped_models
from persona_interp.storage import read_json
from persona_interp.studies.transfers import TransferCase, summary, support, transfer_markdown

NATURAL = "organism-natural"
TRAITS = ("silly", "honest")
FURTHER = ("optimistic", "polite", "verbose")


def read_case(path: Path) -> TransferCase:
    """One pair and trait."""
    return TransferCase.from_json(read_json(path, "transfer case"))


def between_planted(folder: Path) -> list[TransferCase]:
    """Both planted traits in every pair of planted organisms."""
    planted = sorted(name for name in shipped_models() if name != NATURAL)
    pairs = [(source, target) for source in planted for target in planted if source != target]
    return [read_case(folder / "transfer" / f"{a}_{b}_{trait}.json") for trait in TRAITS for a, b in pairs]


def natural_cases(folder: Path, trait: str, side: str) -> list[TransferCase]:
    """Those in which the organism with nothing planted is the source, or the target."""
    cases = map(read_case, sorted((folder / "transfer").glob(f"*{NATURAL}*_{trait}.json")))
    return [case for case in cases if getattr(case, side) == NATURAL]


def further_cases(folder: Path, trait: str) -> list[TransferCase]:
    """Every pair, for a trait that is planted at no layer."""
    return [read_case(path) for path in sorted((folder / "transfer").glob(f"*_{trait}.json"))]


def defined(cases: Sequence[TransferCase]) -> list[TransferCase]:
    """Those in which the target's own vector moves the trait enough for a share of it to mean something."""
    return [case for case in cases if case.recoveries["effects"].value is not None]


def recoveries(cases: Sequence[TransferCase]) -> list[float]:
    """By effects."""
    return [case.recoveries["effects"].value or 0.0 for case in cases]


def transfers(folder: Path) -> str:
    """Both tables, and the means."""
    cases = between_planted(folder)
    return f"{transfer_markdown(cases)}\n{summary(cases)}"


def natural(folder: Path) -> str:
    """Out of the natural organism and into it."""
    rows: list[tuple[str, ...]] = []
    for trait in TRAITS:
        for side, said in (("source", "out of it"), ("target", "into it")):
            cases = natural_cases(folder, trait, side)
            values = recoveries(cases)
            rows.append((trait, said, str(len(cases)), f"{min(values):.2f} to {max(values):.2f}"))
    return "\n".join(markdown_table(("trait", "carried", "pairs", "recovery by effects"), rows))


def further(folder: Path) -> str:
    """The table of the pairs in which recovery is defined, and what it comes to for each trait."""
    found = {trait: further_cases(folder, trait) for trait in FURTHER}
    known = {trait: defined(cases) for trait, cases in found.items()}
    rows: list[tuple[str, ...]] = []
    for trait, cases in found.items():
        values = recoveries(known[trait])
        supports = [each for case in cases if (each := support(case, "effects", left_out=False)) is not None]
        spread, spans = f"{min(values):.2f} to {max(values):.2f}", f"{min(supports):.2f} to {max(supports):.2f}"
        rows.append((trait, f"{len(known[trait])} of {len(cases)}", f"{fmean(values):.2f}", spread, spans))
    headings = ("trait", "recovery is defined in", "on average", "lowest to highest", "support of effects")
    table = transfer_markdown([case for cases in known.values() for case in cases]).split("\n\n")[0]
    return "\n".join([*markdown_table(headings, rows), "", table])
