"""The written rules by which recoveries become a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from persona_interp.diagnostics.causes import CAUSES, named
from persona_interp.evaluation.statistics import Estimate

THRESHOLD = 0.5
"""Recovery below which a transfer has failed; and the share of the full fix's recovery below which a fix was needed."""
NONE, INCONCLUSIVE, NOT_EXPLAINED = "none", "inconclusive", "not explained"


@dataclass(frozen=True)
class Verdict:
    """What is wrong.

    Attributes:
        name: ``none``, causes joined by ``+``, ``not explained`` or ``inconclusive``.
        reason: the numbers it rests on; where inconclusive, what would decide it.
    """

    name: str
    reason: str


def verdict(naive: Estimate, full: Estimate, without: Mapping[str, Estimate]) -> Verdict:
    """Decide, in this order.

    1. Without a recovery (the target's own vector does nothing): inconclusive.
    2. The unfixed vector recovers 0.5 or more: none.
    3. All three fixes together recover less than 0.5: not explained by them.
    4. A cause is present where all fixes but its own have less than 0.5 of the effect of all.
    5. Where an interval that a step rests on crosses 0.5: inconclusive.

    Args:
        naive: recovery with nothing fixed.
        full: with everything fixed.
        without: for each cause, the effect of the full fix without its own, over that of the full fix.
    """
    if naive.value is None or full.value is None:
        return Verdict(INCONCLUSIVE, "the target's own vector hardly moves the trait: larger coefficients would decide it")
    if _crosses(naive):
        return Verdict(INCONCLUSIVE, _undecided("the recovery of the unfixed vector", naive))
    if naive.value >= THRESHOLD:
        return Verdict(NONE, f"the unfixed vector recovers {naive}")
    if _crosses(full):
        return Verdict(INCONCLUSIVE, _undecided("the recovery with all three fixes", full))
    if full.value < THRESHOLD:
        return Verdict(NOT_EXPLAINED, f"all three fixes together recover {full}: length, basis and layer do not explain the loss")
    open_ones = [cause for cause in CAUSES if without[cause].value is None or _crosses(without[cause])]
    if open_ones:
        return Verdict(INCONCLUSIVE, _undecided(f"what is left without the fix of {open_ones[0]}", without[open_ones[0]]))
    present = [cause for cause in CAUSES if (without[cause].value or 0.0) < THRESHOLD]
    left = "; ".join(f"without that of {cause} {without[cause]} of it is left" for cause in CAUSES)
    if not present:
        what = f"the unfixed vector recovers {naive}, yet no single fix is needed ({left})"
        return Verdict(INCONCLUSIVE, f"{what}: other doses would decide it")
    return Verdict(named(present), f"the unfixed vector recovers {naive}, with all fixes {full}; {left}")


def _crosses(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low < THRESHOLD <= estimate.high


def _undecided(what: str, estimate: Estimate) -> str:
    return f"{what} is {estimate}, on both sides of {THRESHOLD:g}: more questions or more samples of each would decide it"
