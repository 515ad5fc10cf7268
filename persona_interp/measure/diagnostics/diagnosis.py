"""`Diagnosis`: measurements, what every subset of fixes recovers, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import Cell, html_table
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.diagnostics.causes import CAUSES, HYPOTHESES, Fixed, named, shapley, subsets
from persona_interp.measure.diagnostics.verdict import EXCLUDED, NOT_EXPLAINED, OPEN, PRESENT, Verdict, verdict
from persona_interp.measure.point import DosePoint, Points, estimate_json, wrong_numbers
from persona_interp.measure.recovery import gated_recovery
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record, json_value

_ALL: Fixed = frozenset(CAUSES)


@dataclass(frozen=True)
class Diagnosis(Record):
    """Why a vector of the source does what it does in the target.

    Attributes:
        trait: name of the trait.
        source: model the vector is of.
        target: model that was steered.
        judge: name of the judge.
        questions: asked under every condition.
        samples: answers to each.
        coefficients: multiply the source's vector; the target's own is at the same perturbation ratio.
        baseline: the unsteered target.
        native: its own vector.
        arms: points for every subset of fixes.
        scan: points of the fixed push at each layer of the target; empty where it was not made.
        measurements: cause -> what was measured of it.
        by_states: points of the full fix with its direction carried by a linear map of states, where it is by effects; else
            empty.
        provenance: versions, seeds, identities.

    Raises:
        InvalidInputError: points at other coefficients or of other numbers of answers than said.
    """

    json_kind = "diagnosis"
    json_version = 2

    trait: str
    source: str
    target: str
    judge: str
    questions: tuple[str, ...]
    samples: int
    coefficients: tuple[float, ...]
    baseline: DosePoint
    native: Points
    arms: Mapping[Fixed, Points]
    scan: Mapping[int, Points]
    measurements: Mapping[str, Mapping[str, Any]]
    by_states: Points = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def __post_init__(self) -> None:
        curves = [self.native, *self.arms.values(), *self.scan.values(), *([self.by_states] if self.by_states else [])]
        for curve in curves:
            if (found := tuple(point.coefficient for point in curve)) != tuple(self.coefficients):
                raise InvalidInputError(f"a curve at {list(found)} where coefficients are {list(self.coefficients)}")
        every = (self.baseline, *(point for curve in curves for point in curve))
        if wrong := wrong_numbers(every, len(self.questions), self.samples):
            raise InvalidInputError(wrong)

    @cached_property
    def recoveries(self) -> dict[Fixed, Estimate]:
        """Of every subset of fixes, with 95 % intervals over questions; answers that are not coherent count as unsteered."""
        return {fixed: gated_recovery(self.arms[fixed], self.native, self.baseline, self._bootstrap) for fixed in subsets()}

    @cached_property
    def left_without(self) -> dict[str, Estimate]:
        """For each cause: the effect of all fixes but its own, over that of all."""
        return {
            cause: gated_recovery(self.arms[_ALL - {cause}], self.arms[_ALL], self.baseline, self._bootstrap, least=1.0)
            for cause in CAUSES
        }

    @cached_property
    def attribution(self) -> dict[str, float] | None:
        """Shapley values of the three fixes; None where there is no recovery. The verdict does not rest on them."""
        values = {fixed: estimate.value for fixed, estimate in self.recoveries.items()}
        known = {fixed: value for fixed, value in values.items() if value is not None}
        return shapley(known) if len(known) == len(values) else None

    @cached_property
    def verdict(self) -> Verdict:
        """By the rules of `measure.diagnostics.verdict`."""
        return verdict(self.recoveries[frozenset()], self.recoveries[_ALL], self.left_without)

    @property
    def scanned(self) -> dict[int, Estimate]:
        """Recovery of the fixed push at each layer of the target."""
        return {layer: gated_recovery(curve, self.native, self.baseline, self._bootstrap) for layer, curve in self.scan.items()}

    @property
    def recovery_by_states(self) -> Estimate | None:
        """With all three fixed, the basis by a map of states instead of effects; None where the fix is by states anyway."""
        return gated_recovery(self.by_states, self.native, self.baseline, self._bootstrap) if self.by_states else None

    def conclusion(self, cause: str) -> str:
        """In words, for one cause: whether it is one, and where that is open, what would decide it."""
        alone, left = self.recoveries[frozenset({cause})], self.left_without[cause]
        state = self.verdict.causes[cause]
        what = {PRESENT: f"{cause} is a cause", EXCLUDED: f"{cause} is not a cause", OPEN: f"whether {cause} is a cause is open"}
        decided = f"; {self.verdict.deciders[cause]}" if state == OPEN else ""
        if self.verdict.name == NOT_EXPLAINED:
            decided = f"; the three causes do not explain the loss{decided}"
        measured = f"fixed alone, recovery is {alone}; with the other two fixed but not it, {left} of the full fix is left"
        return f"{what[state]}: {measured}{decided}"

    def _repr_html_(self) -> str:
        """In a notebook: the verdict, and what fixing each cause alone, none and all of them recovers."""
        fixed = [frozenset[str](), *(frozenset({cause}) for cause in CAUSES), _ALL]
        contributions = self.attribution or {}
        columns: dict[str, list[Cell]] = {
            "fixed": ["nothing", *CAUSES, "all three"],
            "recovery": [str(self.recoveries[each]) for each in fixed],
            "left of the full fix without it": ["", *(str(self.left_without[cause]) for cause in CAUSES), ""],
            "contribution": ["", *(contributions.get(cause) for cause in CAUSES), ""],
            "as a cause": ["", *(self.verdict.causes[cause] for cause in CAUSES), ""],
        }
        title = f"{self.trait}, {self.source} to {self.target}. Verdict: {self.verdict.name} ({self.verdict.reason})"
        return html_table(title, columns)

    @cached_property
    def _bootstrap(self) -> QuestionBootstrap:
        return QuestionBootstrap(len(self.questions), self.samples)

    def to_json(self, hypothesis: str = "all") -> dict[str, Any]:
        """JSON values; `hypothesis` a, b or c writes its cause's measurements and conclusion only, and all else.

        Raises:
            InvalidInputError: the diagnosis was read from the file of another hypothesis, so these measurements are not there.
        """
        causes = tuple(self.measurements) if hypothesis == "all" else (HYPOTHESES[hypothesis],)
        if missing := [cause for cause in causes if cause not in self.measurements]:
            raise InvalidInputError(
                f"this diagnosis has no measurements of {missing[0]}, only of {', '.join(self.measurements)}: it was read from "
                "the file of one hypothesis; read that of another one"
            )
        by_states = self.recovery_by_states
        found: dict[str, Any] = {
            "hypothesis": hypothesis,
            **{name: getattr(self, name) for name in ("trait", "source", "target", "judge", "samples")},
            "measurements": {cause: self.measurements[cause] for cause in causes},
            "conclusion": {cause: self.conclusion(cause) for cause in causes},
            "verdict": self.verdict.name,
            "reason": self.verdict.reason,
            "causes": self.verdict.causes,
            "recoveries": {named(fixed): estimate_json(value) for fixed, value in self.recoveries.items()},
            "recovery_by_states": None if by_states is None else estimate_json(by_states),
            "left_without": {cause: estimate_json(value) for cause, value in self.left_without.items()},
            "attribution": self.attribution,
            "behavioural_layer_scan": {layer: estimate_json(value) for layer, value in self.scanned.items()},
            **{name: getattr(self, name) for name in ("coefficients", "questions", "baseline", "native")},
            "arms": {named(fixed): curve for fixed, curve in self.arms.items()},
            **{name: getattr(self, name) for name in ("by_states", "scan", "provenance")},
        }
        return {"format_version": self.json_version, **json_value(found)}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arms by the causes that are fixed. From the file of one hypothesis come the measurements of its cause alone."""
        if not data["measurements"]:
            raise ValueError("measurements of no cause")
        return {**data, "arms": {fixed: data["arms"][named(fixed)] for fixed in subsets()}}
