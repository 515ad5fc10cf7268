"""The brief's four claims, each with what was measured for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol, runtime_checkable

from persona_interp.measure.evaluation import COHERENT, Evaluation
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.point import mean_known
from persona_interp.measure.statistics import pearson
from persona_interp.measure.transfer_evaluation import PART, TransferEvaluation
from persona_interp.records import Record
from persona_interp.studies.reproduction.modulation_bench import works

LINEAR = 0.95
"""Pearson's correlation of coefficient and score from which on a curve counts as linear."""
CONTROL = 0.25
"""Recovery below which a control on average counts as carrying nothing."""


@runtime_checkable
class Findings(Protocol):
    """What claims rest on: evaluations, transfers and modulations of one reproduction."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Vectors steering their own models."""
        ...

    @property
    def transfers(self) -> tuple[TransferEvaluation, ...]:
        """Vectors carried into other models."""
        ...

    @property
    def modulations(self) -> tuple[Modulated, ...]:
        """Ways of steering a GGUF model."""
        ...


@dataclass(frozen=True)
class Claim(Record):
    """A claim and its evidence.

    Attributes:
        claim: as the brief makes it.
        holds: ``yes``, ``in part``, ``no`` or ``not measured``.
        measured: in words, with the numbers.
    """

    json_kind = "claim"

    claim: str
    holds: str
    measured: str


def claims(found: Findings) -> tuple[Claim, ...]:
    """All four, in the brief's order."""
    return (_transfer(found), _coherence(found), _black_box(found), _linear(found))


def _transfer(found: Findings) -> Claim:
    claim = "a persona vector of one family steers a model of another"
    known = [each for each in found.transfers if each.recovery.value is not None]
    if not known:
        return Claim(claim, "not measured", "no target's own vector moves its trait by 20 points, so recovery is undefined")
    values = [value for each in known if (value := each.recovery.value) is not None]
    controls = {
        name: mean_known(each.control_recoveries[name].value for each in known)
        for name in ("random", "shuffled", "naive")
        if all(name in each.control_recoveries for each in known)
    }
    arrived = sum(value >= PART for value in values)
    coherence = [each.main.points for each in known]
    lowest = min((point.coherence for points in coherence for point in points if point.coherence is not None), default=None)
    listed = ", ".join(f"{name} {'not known' if value is None else f'{value:.2f}'}" for name, value in controls.items())
    text = (
        f"{arrived} of {len(known)} transfers recover at least half of the effect of the target's own vector: "
        f"{fmean(values):.2f} on average, {min(values):.2f} to {max(values):.2f}; controls on average: {listed}"
    )
    text += f"; lowest coherence {lowest:.0f}" if lowest is not None else ""
    good = all(value is not None and abs(value) < CONTROL for value in controls.values())
    return Claim(claim, _how_many(arrived if good else 0, len(known)), text)


def _coherence(found: Findings) -> Claim:
    claim = f"coherence stays above {COHERENT:g} for coefficients from -2 to 2"
    known = [each for each in found.evaluations if _coherences(each)]
    if not known:
        return Claim(claim, "not measured", "the judge gave no coherence")
    lowest = [min(_coherences(each)) for each in known]
    whole = [len(_coherences(each)) == len(each.curve) for each in known]  # what was not judged is not known to hold
    held = sum(value > COHERENT and all_judged for value, all_judged in zip(lowest, whole, strict=True))
    safe = [_coherent_ratio(each) for each in known]
    reached = [value for value in safe if value is not None]
    text = (
        f"in {held} of {len(known)} vectors; the lowest coherence is {min(lowest):.0f} to {max(lowest):.0f}. A coefficient of 2 "
        f"is a perturbation ratio of {_ratios(known)}"
    )
    if reached:
        text += (
            f"; among the coefficients tried, coherence holds in both directions up to a ratio of {min(reached):.2f} to "
            f"{max(reached):.2f}"
        )
    return Claim(claim, _how_many(held, len(known)), text)


def _coherences(each: Evaluation) -> list[float]:
    """Of the points of a curve at which it was judged."""
    return [point.coherence for point in each.curve if point.coherence is not None]


def _black_box(found: Findings) -> Claim:
    claim = "a black-box model can be modulated by a persona vector"
    if not found.modulations:
        return Claim(claim, "not measured", "this preset has no GGUF model; see validate-modulation")
    outside = [each for each in found.modulations if not each.placebo and each.mode not in ("control vector", "prompt only")]
    placebos = [each for each in found.modulations if each.placebo]
    viable = sum(works(each, found.modulations) for each in outside)
    listed = "; ".join(f"{each.mode}, {each.trait}: {each.share}" for each in outside)
    beside = [abs(value) for each in placebos if (value := each.share.value) is not None]
    most = f"placebos at most {max(beside):.2f}" if beside else "no placebo was measured"
    text = f"share of what a control vector inside the same GGUF moves: {listed}; {most}"
    return Claim(claim, _how_many(viable, len(outside)), text)


def _linear(found: Findings) -> Claim:
    claim = "the trait's strength is linear in the coefficient"
    whole = [value for each in found.evaluations if (value := each.pearson.value) is not None]
    inner = [value for each in found.evaluations if (value := _inner_correlation(each)) is not None]
    if not whole:
        return Claim(claim, "not measured", "no curve has three scores")
    good = sum(abs(value) >= LINEAR for value in inner)
    text = f"Pearson's r of coefficient and mean score is {min(whole):.2f} to {max(whole):.2f} over -2 to 2"
    if inner:
        text += (
            f", and {min(inner):.2f} to {max(inner):.2f} within the coherent range, where {good} of {len(inner)} curves have "
            f"{LINEAR:g} or more; scores end at 0 and 100, so a curve bends where it comes near"
        )
    return Claim(claim, _how_many(good, len(inner)) if inner else "no", text)


def _inner_correlation(each: Evaluation) -> float | None:
    """Within the coherent range, of at least four coefficients."""
    within = each.coherent_range
    if within is None:
        return None
    inside = [point for point in each.curve if within.low <= point.coefficient <= within.high]
    points = [(point.coefficient, point.trait) for point in inside if point.trait is not None]
    if len(points) < 4:
        return None
    return pearson([coefficient for coefficient, _ in points], [trait for _, trait in points]).value


def _coherent_ratio(each: Evaluation) -> float | None:
    """The perturbation ratio up to which both directions are coherent."""
    within = each.coherent_range
    if within is None:
        return None
    reach = min(abs(within.low), within.high)
    return next((point.perturbation_ratio for point in each.curve if point.coefficient == reach and reach), None)


def _ratios(known: Sequence[Evaluation]) -> str:
    units = [
        2 * point.perturbation_ratio / abs(point.coefficient)
        for each in known
        if (point := each.curve[-1]).perturbation_ratio is not None
    ]
    return f"{min(units):.2f} to {max(units):.2f}" if units else "unknown size"


def _how_many(good: int, all_of_them: int) -> str:
    if all_of_them and good == all_of_them:
        return "yes"
    return "in part" if good else "no"
