"""Whether the components that write along a vector are needed for the trait: the result of `ablation_check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from persona_interp.attribution.component import Component
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.layer_scan import MIN_COHERENCE, coherent
from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record

_MEASURED = ("holds", "drop", "random_drop", "excess", "over_placebo", "baseline", "against", "arms")


@dataclass(frozen=True)
class AblationArm(Record):
    """Answers with some components ablated.

    Attributes:
        name: ``top``, ``placebo`` or ``random 1``, ...
        components: ablated.
        point: the scores of the answers (its coefficient is 0: nothing is steered).
    """

    json_kind = "ablation"

    name: str
    components: tuple[Component, ...]
    point: DosePoint

    def json_items(self) -> dict[str, Any]:
        """What the point holds stands beside the name."""
        return {"name": self.name, "components": self.components, **self.point.to_json()}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inverse of `json_items`."""
        return {**data, "point": data}


@dataclass(frozen=True)
class AblationCheck(Record):
    """Trait expression under the positive system prompts, with and without the components that write most along a vector.

    Attributes:
        trait: name of the trait judged.
        model: name of the model.
        judge: name of the judge.
        layer: 0-based block whose output the attribution explained; components are of it and those before it.
        baseline: asked for the trait, nothing ablated.
        against: asked against the trait, nothing ablated: how low the score can go.
        top: the components with the largest share, each writing what it writes on average in negative answers.
        placebo: the same components, writing what they write on average in positive answers: as constant, but with the trait.
        random: other components of the same kinds and layers, as many of each kind, writing their means in negative answers.
        questions: asked in every arm; not those the components were chosen on.
        samples: answers to each.
        provenance: versions, seed, sampling, identities.
    """

    json_kind = "ablation check"
    json_version = 1
    json_names = ("trait", "model", "judge", "layer", "samples", *_MEASURED, "questions", "provenance")

    trait: str
    model: str
    judge: str
    layer: int
    baseline: DosePoint
    against: DosePoint
    top: AblationArm
    placebo: AblationArm
    random: tuple[AblationArm, ...]
    questions: tuple[str, ...]
    samples: int
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def arms(self) -> tuple[AblationArm, ...]:
        """All with something ablated."""
        return (self.top, self.placebo, *self.random)

    @property
    def _bootstrap(self) -> QuestionBootstrap:
        return QuestionBootstrap(len(self.questions), self.samples)

    def score(self, point: DosePoint) -> Estimate:
        """Mean trait score of the answers that have one, with a 95 % interval over questions."""
        return self._bootstrap.mean(point.trait_scores)

    def drop(self, arm: AblationArm) -> Estimate:
        """By how many points ablation lowered the trait score, on the same questions."""
        return self._bootstrap.difference(self.baseline.trait_scores, arm.point.trait_scores)

    @property
    def random_drop(self) -> Estimate:
        """The mean drop over the random sets."""
        scores = [self.baseline.trait_scores, *(arm.point.trait_scores for arm in self.random)]
        return self._bootstrap.over_curve(range(len(scores)), scores, lambda _, means: means[:, 0] - _mean_of(means[:, 1:]))

    @property
    def excess(self) -> Estimate:
        """By how many points more the score drops under `top` than under the random sets, on average."""
        scores = [self.top.point.trait_scores, *(arm.point.trait_scores for arm in self.random)]
        return self._bootstrap.over_curve(range(len(scores)), scores, lambda _, means: _mean_of(means[:, 1:]) - means[:, 0])

    @property
    def over_placebo(self) -> Estimate:
        """By how many points more the score drops under `top` than under the placebo."""
        return self._bootstrap.difference(self.placebo.point.trait_scores, self.top.point.trait_scores)

    @property
    def random_as_strong(self) -> int:
        """Random sets under which the score drops at least as far as under `top`."""
        most = self.top.point.trait
        return sum(most is not None and arm.point.trait is not None and arm.point.trait <= most for arm in self.random)

    @property
    def coherent(self) -> bool:
        """Whether answers under `top` are still language: mean coherence of at least 75."""
        return coherent(self.top.point)

    @property
    def holds(self) -> bool:
        """Whether the trait needs what these components say.

        The intervals of `excess` and of `over_placebo` lie above 0, and answers stay coherent.
        """
        return _above(self.excess) and _above(self.over_placebo) and self.coherent

    def reason(self) -> str:
        """In words, what was found."""
        names = ", ".join(component.name for component in self.top.components)
        found = (
            f"ablating {names} lowers {self.trait} by {points(self.drop(self.top))} points, {len(self.random)} random sets by "
            f"{points(self.random_drop)} on average: {points(self.excess)} more; {self.random_as_strong} of the random sets do "
            f"as much. Writing their positive means instead lowers it by {points(self.drop(self.placebo))}."
        )
        if not self.coherent:
            return (
                f"not shown: {found} But coherence falls to {self.top.point.coherence or 0:.0f} (below {MIN_COHERENCE:g}), so "
                "that the trait may have gone with the language."
            )
        if _above(self.excess) and not self.holds:
            return f"not shown: {found} So it is the constant that lowers it, whatever it says."
        return f"{'shown' if self.holds else 'not shown'}: {found}"

    def json_items(self) -> dict[str, Any]:
        """The estimates are written beside the scores they follow from, for readers without this package."""
        return {**super().json_items(), "drop": self.drop(self.top)}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arms by what they are."""
        top, placebo, *drawn = data["arms"]
        return {**data, "top": top, "placebo": placebo, "random": drawn}

    def __repr__(self) -> str:
        return f"AblationCheck({self.trait!r} in {self.model}, {self.reason()})"


def _mean_of(means: Any) -> Any:
    """Over those arms that have a score; NaN where none has."""
    known = np.isfinite(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, means, 0.0).sum(axis=1) / known.sum(axis=1)


def _above(estimate: Estimate) -> bool:
    """Whether the whole interval lies above 0."""
    return estimate.low is not None and estimate.low > 0


def points(estimate: Estimate) -> str:
    """Whole points of score, with their interval."""
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" [{estimate.low:.0f}, {estimate.high:.0f}]"
    return f"{estimate.value:.0f}{interval}"
