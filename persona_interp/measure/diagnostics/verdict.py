"""The written rules by which recoveries become a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from persona_interp.measure.diagnostics.causes import CAUSES, named
from persona_interp.measure.statistics import Estimate

THRESHOLD = 0.5
"""Recovery below which a transfer has failed; and the share of the full fix's recovery below which a fix was needed."""
NONE, INCONCLUSIVE, NOT_EXPLAINED = "none", "inconclusive", "not explained"
PRESENT, EXCLUDED, OPEN = "present", "excluded", "open"
_MOST = 100
"""Times as many questions, beyond which asking more is no advice."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong.

    Attributes:
        name: ``none``, causes joined by ``+``, ``not explained`` or ``inconclusive``.
        reason: the numbers it rests on; where inconclusive, what would decide it.
        causes: each cause ``present``, ``excluded`` or ``open``, however the verdict as a whole is.
        deciders: cause that is open -> what would decide it.
    """

    name: str
    reason: str
    causes: Mapping[str, str] = field(default_factory=dict[str, str])
    deciders: Mapping[str, str] = field(default_factory=dict[str, str])


def verdict(naive: Estimate, full: Estimate, without: Mapping[str, Estimate]) -> Verdict:
    """Decide, in this order.

    1. Without a recovery (the target's own vector does nothing): inconclusive.
    2. The unfixed vector recovers 0.5 or more: none.
    3. All three fixes together recover less than 0.5: not explained by them.
    4. A cause is present where all fixes but its own have less than 0.5 of the effect of all; without one that is: inconclusive.

    An estimate whose interval crosses 0.5 may lie on either side. Where the sides it may lie on lead to different verdicts, the
    verdict is inconclusive; a cause is present or excluded all the same where it is so on all of them, and else open.

    Args:
        naive: recovery with nothing fixed.
        full: with everything fixed.
        without: for each cause, the effect of the full fix without its own, over that of the full fix.
    """
    if naive.value is None or full.value is None:
        dead = "the target's own vector hardly moves the trait: larger coefficients would decide it"
        return Verdict(INCONCLUSIVE, dead, dict.fromkeys(CAUSES, OPEN), dict.fromkeys(CAUSES, dead))
    ways = list(_ways(naive, full, without))
    names = {_name(*way) for way in ways}
    causes = {cause: _agreed({_state(cause, *way) for way in ways}) for cause in CAUSES}
    if set(causes.values()) == {EXCLUDED} and names != {NONE}:  # there is a loss, or may be, and one fix stands in for another
        causes = dict.fromkeys(CAUSES, OPEN)
    about = {"the recovery of the unfixed vector": naive, "the recovery with all three fixes": full}
    deciders = {
        cause: _deciders({**about, f"what is left without the fix of {cause}": without[cause]}, names)
        for cause in CAUSES
        if causes[cause] == OPEN
    }
    left = "; ".join(f"without that of {cause} {without[cause]} of it is left" for cause in CAUSES)
    if len(names) > 1:
        return Verdict(INCONCLUSIVE, "; ".join(dict.fromkeys(deciders.values())), causes, deciders)
    (name,) = names
    if name == NONE:
        reason = f"the unfixed vector recovers {naive}"
    elif name == NOT_EXPLAINED:
        reason = f"all three fixes together recover {full}: length, basis and layer do not explain the loss"
    elif name == INCONCLUSIVE:
        reason = f"the unfixed vector recovers {naive}, yet no single fix is needed ({left}): other doses would decide it"
    else:
        reason = f"the unfixed vector recovers {naive}, with all fixes {full}; {left}"
    return Verdict(name, reason, causes, deciders)


def _ways(naive: Estimate, full: Estimate, without: Mapping[str, Estimate]) -> Iterator[tuple[bool, bool, dict[str, bool]]]:
    """Whether each estimate is 0.5 or more, in every way the intervals allow."""
    for first, second, *others in product(*map(_sides, (naive, full, *(without[cause] for cause in CAUSES)))):
        yield first, second, dict(zip(CAUSES, others, strict=True))


def _sides(estimate: Estimate) -> tuple[bool, ...]:
    return (False, True) if estimate.value is None or _crosses(estimate) else (estimate.value >= THRESHOLD,)


def _name(naive: bool, full: bool, without: Mapping[str, bool]) -> str:
    if naive:
        return NONE
    if not full:
        return NOT_EXPLAINED
    needed = [cause for cause in CAUSES if not without[cause]]
    return named(needed) if needed else INCONCLUSIVE


def _state(cause: str, naive: bool, full: bool, without: Mapping[str, bool]) -> str:
    """With all three fixed and nothing regained, a fix has nothing to show itself by: its cause may be one among others."""
    if naive:
        return EXCLUDED
    if not full:
        return OPEN
    return EXCLUDED if without[cause] else PRESENT


def _agreed(states: set[str]) -> str:
    return next(iter(states)) if len(states) == 1 else OPEN


def _deciders(about: Mapping[str, Estimate], names: set[str]) -> str:
    found = [_undecided(what, each) for what, each in about.items() if len(_sides(each)) > 1]
    if names == {NOT_EXPLAINED}:
        return "with all three fixed too little is regained for a fix to show itself by: a better map would decide it"
    return "; ".join(found) or "no single fix is needed: other doses would decide it"


def _crosses(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low < THRESHOLD <= estimate.high


def _undecided(what: str, estimate: Estimate) -> str:
    """With how many more questions the interval, which shrinks with the root of their number, would end at 0.5."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"{what} is not known, for all three fixes together hardly move the trait: larger coefficients would decide it"
    reach = estimate.high - estimate.value if estimate.value < THRESHOLD else estimate.value - estimate.low
    gap = abs(estimate.value - THRESHOLD)
    times = _MOST + 1 if gap == 0 else (reach / gap) ** 2
    sides = f"{what} is {estimate}, on both sides of {THRESHOLD:g}"
    if times > _MOST:
        return f"{sides}, and too near to it for more questions: other doses would decide it"
    return f"{sides}: about {max(times, 1.1):.2g} times as many questions or samples would decide it"
