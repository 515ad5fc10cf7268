"""The result of screening: training samples in the order in which they would push a model along a persona vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.measure.statistics import Estimate, auroc
from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record


@dataclass(frozen=True)
class ScreenedSample(Record):
    """One training sample.

    Attributes:
        name: its ``id``, or its line in the file.
        prompt: what the user said last.
        answer: the sample's.
        projection: mean over the tokens of the sample's answer; None where the answer is empty.
        own_projection: the same of the model's own answers to the same prompt, averaged; None where all of those are empty.
        own_answers: their texts.
        planted: whether it was planted, where the file says so.
    """

    json_kind = "screened sample"
    json_names = ("name", "difference", "projection", "own_projection", "prompt", "answer", "own_answers", "planted")

    name: str
    prompt: str
    answer: str
    projection: float | None
    own_projection: float | None
    own_answers: tuple[str, ...] = ()
    planted: bool | None = None

    @property
    def difference(self) -> float | None:
        """The sample's projection minus the model's own: how far training on it pulls (arXiv 2507.21509, section 6)."""
        if self.projection is None or self.own_projection is None:
            return None
        return self.projection - self.own_projection


@dataclass(frozen=True)
class Screening(Record):
    """Training samples, those that pull furthest along the vector first (against it, if `reverse`).

    Attributes:
        trait: of the vector.
        model: whose answers the samples are compared with.
        layer: 0-based block that was read.
        norm: of the vector there; differences are in the same units, those of the activations.
        reverse: whether samples that pull against the vector come first.
        samples: in that order; samples without a difference last.
        provenance: versions, seed, sampling, and the vector's model.
    """

    json_kind = "screening"
    json_version = 1

    trait: str
    model: ModelIdentity
    layer: int
    norm: float
    reverse: bool
    samples: tuple[ScreenedSample, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def n_without_difference(self) -> int:
        """Samples whose answer, or whose prompt's own answers, have no token to read."""
        return sum(sample.difference is None for sample in self.samples)

    def auroc(self, score: str = "difference") -> Estimate | None:
        """How well ``difference`` or ``projection`` tells planted samples from the others; None where the samples do not say."""
        sign = -1 if self.reverse else 1
        scored: dict[bool, list[float]] = {True: [], False: []}
        for sample in self.samples:
            value = getattr(sample, score)
            if sample.planted is not None and value is not None:
                scored[sample.planted].append(sign * value)
        return auroc(scored[True], scored[False]) if scored[True] and scored[False] else None

    def json_items(self) -> dict[str, Any]:
        """Areas and ranks are written beside what they follow from."""
        items = super().json_items()
        samples, provenance = items.pop("samples"), items.pop("provenance")
        ranked = [{"rank": rank, **sample.to_json()} for rank, sample in enumerate(samples, start=1)]
        areas = {score: self.auroc(score) for score in ("difference", "projection")}
        return {**items, "auroc": areas, "samples": ranked, "provenance": provenance}
