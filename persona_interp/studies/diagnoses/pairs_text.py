"""Diagnoses of real pairs in words: a table, and where the three causes do not explain the loss."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from persona_interp.measure.diagnostics.causes import CAUSES
from persona_interp.measure.diagnostics.verdict import EXCLUDED, INCONCLUSIVE, NONE, NOT_EXPLAINED, OPEN, PRESENT, THRESHOLD
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.statistics import Estimate
from persona_interp.studies.diagnoses.pairs_bench import PairCase

_HEADINGS = (
    "pair",
    "trait",
    "unfixed",
    "all fixed",
    *(f"{cause} adds" for cause in CAUSES),
    "by states",
    "source → target",
    "verdict",
)


def pairs_markdown(cases: Sequence[PairCase]) -> str:
    """A row a pair: recovery with nothing and everything fixed, what each fix contributes, the layers, and the verdict.

    Layers are of the source, of the target where it corresponds, and in brackets the one the unfixed vector enters. Where the
    verdict is inconclusive, the causes that are established and those that are open are named.
    """
    rows: list[tuple[str, ...]] = []
    for case in cases:
        shares = ["–" if case.attribution is None else f"{case.attribution[cause]:.2f}" for cause in CAUSES]
        measured = case.measurements["layers"]
        layers = f"{measured['source_layer']} → {measured['matched_layer']} ({measured['same_index']})"
        by_states = "–" if case.by_states is None else str(case.by_states)
        rows.append((_pair(case), case.trait, str(case.naive), str(case.full), *shares, by_states, layers, _verdict(case)))
    return "\n".join(markdown_table(_HEADINGS, rows)) + "\n"


def pairs_summary(cases: Sequence[PairCase]) -> str:
    """What is explained and what is not, a line each."""
    lost = [case for case in cases if case.verdict != NONE]
    explained = [case for case in lost if case.verdict != NOT_EXPLAINED and (case.full.low or 0.0) >= THRESHOLD]
    lines = [
        f"{len(lost)} of {len(cases)} vectors lose their effect when carried as they are; in {len(explained)} of these the three "
        f"fixes together bring back {THRESHOLD:g} of it or more, by the whole interval",
        f"NOT explained by length, basis and layer: {_listed([case for case in lost if case not in explained]) or 'none'}",
    ]
    for cause in CAUSES:
        states = [case.causes[cause] for case in cases]
        lines.append(f"{cause}: " + ", ".join(f"{state} in {states.count(state)}" for state in (PRESENT, EXCLUDED, OPEN)))
    lines.append(f"which causes is not settled in: {_listed([case for case in cases if case.verdict == INCONCLUSIVE]) or 'none'}")
    for trait in dict.fromkeys(case.trait for case in cases):
        mine = [case for case in cases if case.trait == trait]
        lines.append(
            f"{trait}: unfixed {_spread([case.naive for case in mine])}, all fixed {_spread([case.full for case in mine])}"
        )
        known = [case.attribution for case in mine if case.attribution is not None]
        if known:
            means = ", ".join(f"{cause} {fmean(each[cause] for each in known):.2f}" for cause in CAUSES)
            lines.append(f"{trait}: of that, on average: {means}")
        states = [case for case in mine if case.by_states is not None and case.by_states.value is not None]
        if states:
            low = [case for case in states if _value(case.by_states) < THRESHOLD]
            what = (
                f"{trait}: with the basis fixed by a linear map of states instead {_spread([case.by_states for case in states])}"
            )
            lines.append(f"{what}; below {THRESHOLD:g}, so not explained by such maps: {_listed(low) or 'none'}")
    return "\n".join(lines)


def _verdict(case: PairCase) -> str:
    if case.verdict != INCONCLUSIVE:
        return case.verdict
    kinds = {state: [cause for cause, found in case.causes.items() if found == state] for state in (PRESENT, OPEN)}
    return "; ".join(["+".join(kinds[PRESENT]) or INCONCLUSIVE, f"open: {'+'.join(kinds[OPEN])}"])


def _spread(estimates: Sequence[Estimate | None]) -> str:
    values = [each.value for each in estimates if each is not None and each.value is not None]
    return f"{fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "undefined"


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None or estimate.value is None else estimate.value


def _listed(cases: Sequence[PairCase]) -> str:
    return ", ".join(f"{_pair(case)} {case.trait}" for case in cases)


def _pair(case: PairCase) -> str:
    return f"{case.source.removeprefix('organism-')} → {case.target.removeprefix('organism-')}"
