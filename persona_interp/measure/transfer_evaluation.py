"""`TransferEvaluation`: what a carried vector does in the target, beside the target's own vector and beside controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.point import DosePoint, Points, estimate_json, with_estimates
from persona_interp.measure.recovery import (
    ENOUGH,
    at_coefficients_of,
    native_movement,
    prompted_share,
    recovery,
    recovery_at,
)
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record
from persona_interp.traits.coherence import coherent

CONTROLS = {
    "random": "random directions of the same norm, at the same layer",
    "shuffled": "the same method, with anchors paired in random order",
    "naive": "the source's entries cut or padded to the target's width",
    "equal depth": "the same method, into the layer at equal relative depth",
    "wrong trait": "another trait's vector, carried in the same way",
}
"""Control -> what it is. ``prompt only`` is there too: system prompts for and against the trait, without steering."""
PART = 0.5
"""Recovery from which on the verdict says that a vector transfers, and below which that it does in part."""


@dataclass(frozen=True)
class CarriedCurve:
    """One method's vector in the target.

    Attributes:
        method: the alignment.
        report: `TransferReport` as JSON: layers, held-out quality, coverage, warnings.
        points: at every coefficient except 0.
        cosine_to_native: with the target's own vector at the layer steered; never part of a fit.
    """

    method: str
    report: Mapping[str, Any]
    points: Points
    cosine_to_native: float | None


@dataclass(frozen=True)
class TransferEvaluation(Record):
    """A vector of one model in another.

    Estimates have 95 % intervals from a bootstrap over questions, the same ones drawn under every condition.

    Attributes:
        trait: name of the trait scored.
        source: model the vector is of.
        target: model that was steered.
        judge: name of the judge.
        questions: asked under every condition.
        samples: answers to each.
        native_layer: 0-based block the target's own vector steers at.
        baseline: the unsteered target.
        native: the target's own vector; coefficients multiply it as it is, all others are as long at the same coefficient,
            against the mean residual of the layer they steer at.
        carried: one a method, the first is the one that is judged.
        controls: name -> curves, of the first method; see `CONTROLS`.
        prompted: unsteered, under positive system prompts.
        prompted_against: under negative ones.
        provenance: versions, seeds, identities.

    Raises:
        InvalidInputError: a curve was not measured at the coefficients of the native one.
    """

    json_kind = "transfer evaluation"
    json_version = 1

    trait: str
    source: str
    target: str
    judge: str
    questions: tuple[str, ...]
    samples: int
    native_layer: int
    baseline: DosePoint
    native: Points
    carried: tuple[CarriedCurve, ...]
    controls: Mapping[str, tuple[Points, ...]]
    prompted: DosePoint
    prompted_against: DosePoint
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def __post_init__(self) -> None:
        for curve in (*(each.points for each in self.carried), *(curve for curves in self.controls.values() for curve in curves)):
            at_coefficients_of(self.native, curve)

    @property
    def method(self) -> str:
        """The alignment that is judged."""
        return self.carried[0].method

    @property
    def main(self) -> CarriedCurve:
        """The curve that is judged."""
        return self.carried[0]

    def recovery_of(self, *curves: Points) -> Estimate:
        """Slope over the native slope; see `recovery`."""
        return recovery(curves, self.native, self.baseline, self._bootstrap)

    @cached_property
    def recovery(self) -> Estimate:
        """Of the method that is judged."""
        return self.recovery_of(self.main.points)

    @cached_property
    def control_recoveries(self) -> dict[str, Estimate]:
        """Every control in the unit of recovery; several curves averaged."""
        found = {name: self.recovery_of(*curves) for name, curves in self.controls.items()}
        for each in self.carried[1:]:
            if each.method == "naive":  # asked for as a method, it is still the control
                found.setdefault("naive", self.recovery_of(each.points))
        prompts = (self.prompted, self.prompted_against)
        found["prompt only"] = prompted_share(*prompts, self.native, self.baseline, self._bootstrap)
        return found

    def trait_score(self, point: DosePoint) -> Estimate:
        """Mean trait score, 0-100."""
        return self._bootstrap.mean(point.trait_scores)

    def coherence(self, point: DosePoint) -> Estimate:
        """Mean coherence, 0-100."""
        return self._bootstrap.mean(point.coherence_scores)

    @property
    def coherent(self) -> bool | None:
        """Whether the judged method keeps coherence at 70 or above at every coefficient; None where nobody judged it."""
        known = [point.coherence for point in self.main.points if point.coherence is not None]
        return coherent(min(known, default=None), COHERENT)

    @cached_property
    def verdict(self) -> str:
        """In words: whether it transfers, by the intervals."""
        found = self.recovery
        if found.value is None:
            moved = native_movement(self.native, self.baseline)
            return (
                f"undefined: the target's own vector moves {self.trait} by {moved:.0f} points at most, of which no share means "
                f"anything (below {ENOUGH:.0f})"
            )
        controls = {name: self.control_recoveries[name] for name in ("random", "shuffled") if name in self.controls}
        beside = "; ".join(f"{name} {value}" for name, value in controls.items())
        numbers = f"recovers {found}; {beside}" if beside else f"recovers {found}"
        if found.low is None:
            return f"cannot be told, for there is no interval: {numbers}"
        # above the mean of the chance directions with its interval, and above each single one, as `Evaluation` asks it
        best = max([0.0, *(value.high for value in controls.values() if value.high is not None), *self._alone(controls)])
        if found.low <= best:
            return f"does not transfer: {numbers}"
        broken = "" if self.coherent in (True, None) else f", but coherence falls below {COHERENT:.0f}"
        naive = self.control_recoveries.get("naive")
        if naive is not None:
            numbers += f"; naive {naive}"
            if naive.high is not None and naive.high >= found.low:
                broken += ", but the vector cut or padded may do as well"
        return f"{'transfers' if found.value >= PART else 'transfers in part'}{broken}: {numbers}"

    def _alone(self, names: Iterable[str]) -> list[float]:
        """What each single curve of these controls recovers."""
        found = [self.recovery_of(curve).value for name in names for curve in self.controls[name]]
        return [value for value in found if value is not None]

    @cached_property
    def _bootstrap(self) -> QuestionBootstrap:
        return QuestionBootstrap(len(self.questions), self.samples)

    # -- files -----------------------------------------------------------------------------------------------------

    def json_items(self) -> dict[str, Any]:
        """Estimates are written beside the scores they follow from."""
        return {
            **{name: getattr(self, name) for name in ("trait", "source", "target", "judge", "method", "samples", "native_layer")},
            "questions": self.questions,
            "results": self._curve_json(self.main.points),
            "recovery": estimate_json(self.recovery),
            "controls": {name: estimate_json(value) for name, value in self.control_recoveries.items()},
            "cosine_to_native": self.main.cosine_to_native,
            "coverage": self.main.report.get("coverage"),
            "verdict": self.verdict,
            "methods": {
                each.method: {
                    "recovery": estimate_json(self.recovery_of(each.points)),
                    "cosine_to_native": each.cosine_to_native,
                    "report": each.report,
                    "results": self._curve_json(each.points),
                }
                for each in self.carried
            },
            "baseline": self._point_json(self.baseline),
            "native": self._curve_json(self.native),
            "control_results": {name: [self._curve_json(c) for c in curves] for name, curves in self.controls.items()},
            "prompt_only": {"positive": self._point_json(self.prompted), "negative": self._point_json(self.prompted_against)},
            "provenance": self.provenance,
        }

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Methods as curves, that which is judged first."""
        methods, prompted = data["methods"], data["prompt_only"]
        order = sorted(methods, key=lambda name: name != data["method"])
        carried = [{**methods[name], "method": name, "points": methods[name]["results"]} for name in order]
        alone = {"prompted": prompted["positive"], "prompted_against": prompted["negative"]}
        return {**data, "carried": carried, "controls": data["control_results"], **alone}

    def _curve_json(self, points: Points) -> list[dict[str, Any]]:
        native = {point.coefficient: point for point in self.native}
        return [
            self._point_json(point, recovery=recovery_at(point, native[point.coefficient], self.baseline, self._bootstrap))
            for point in points
        ]

    def _point_json(self, point: DosePoint, **more: Estimate) -> dict[str, Any]:
        return with_estimates(point, self._bootstrap, **more)
