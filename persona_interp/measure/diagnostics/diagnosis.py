"""`Diagnosis`: measurements, what every subset of fixes recovers, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.html_table import Cell, html_table
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.diagnostics.causes import CAUSES, Fixed, shapley, subsets
from persona_interp.measure.diagnostics.gated_recovery import Curve, share
from persona_interp.measure.diagnostics.verdict import EXCLUDED, NOT_EXPLAINED, OPEN, PRESENT, Verdict, verdict
from persona_interp.measure.dose import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.storage import check_format_version

FORMAT_VERSION = 2
_ALL: Fixed = frozenset(CAUSES)


@dataclass(frozen=True)
class Diagnosis:
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
    """

    trait: str
    source: str
    target: str
    judge: str
    questions: tuple[str, ...]
    samples: int
    coefficients: tuple[float, ...]
    baseline: DosePoint
    native: Curve
    arms: Mapping[Fixed, Curve]
    scan: Mapping[int, Curve]
    measurements: Mapping[str, Mapping[str, Any]]
    by_states: Curve = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @cached_property
    def recoveries(self) -> dict[Fixed, Estimate]:
        """Of every subset of fixes, with 95 % intervals over questions; answers that are not coherent count as unsteered."""
        return {fixed: share(self.arms[fixed], self.native, self.baseline, self._bootstrap) for fixed in subsets()}

    @cached_property
    def left_without(self) -> dict[str, Estimate]:
        """For each cause: the effect of all fixes but its own, over that of all."""
        return {
            cause: share(self.arms[_ALL - {cause}], self.arms[_ALL], self.baseline, self._bootstrap, least=1.0)
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
        return {layer: share(curve, self.native, self.baseline, self._bootstrap) for layer, curve in self.scan.items()}

    @property
    def recovery_by_states(self) -> Estimate | None:
        """With all three fixed, the basis by a map of states instead of effects; None where the fix is by states anyway."""
        return share(self.by_states, self.native, self.baseline, self._bootstrap) if self.by_states else None

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
        from persona_interp.measure.diagnostics.diagnosis_json import to_json

        return {"format_version": FORMAT_VERSION, **to_json(self, hypothesis)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "diagnosis") -> Diagnosis:
        """The inverse of `to_json`; recoveries and the verdict are computed again from the scores.

        From the file of one hypothesis come the measurements of its cause alone; all else is whole.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        from persona_interp.measure.diagnostics.diagnosis_json import from_json

        check_format_version(data, FORMAT_VERSION, source)
        try:
            return from_json(data)
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{source}: a field is malformed ({error})") from error
