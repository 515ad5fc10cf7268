"""The result of screening: training samples in the order in which they would push a model along a persona vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.measure.statistics import Estimate, auroc
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import check_format_version

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ScreenedSample:
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
class Screening:
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

    def to_json(self) -> dict[str, Any]:
        """JSON values; ranks, differences and areas are written beside what they follow from."""
        areas = {score: self.auroc(score) for score in ("difference", "projection")}
        return {
            "format_version": FORMAT_VERSION,
            "trait": self.trait,
            "model": self.model.to_json(),
            "layer": self.layer,
            "norm": self.norm,
            "reverse": self.reverse,
            "auroc": {score: None if area is None else area.to_json() for score, area in areas.items()},
            "samples": [
                {
                    "rank": rank,
                    "name": sample.name,
                    "difference": sample.difference,
                    "projection": sample.projection,
                    "own_projection": sample.own_projection,
                    "prompt": sample.prompt,
                    "answer": sample.answer,
                    "own_answers": list(sample.own_answers),
                    "planted": sample.planted,
                }
                for rank, sample in enumerate(self.samples, start=1)
            ],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "screening") -> Screening:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        check_format_version(data, FORMAT_VERSION, source)
        try:
            return cls(
                trait=str(data["trait"]),
                model=ModelIdentity.from_json(data["model"], source=source),
                layer=int(data["layer"]),
                norm=float(data["norm"]),
                reverse=bool(data["reverse"]),
                samples=tuple(_sample_from_json(sample) for sample in data["samples"]),
                provenance=dict(data["provenance"]),
            )
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{source}: a field is malformed ({error})") from error


def _sample_from_json(data: Mapping[str, Any]) -> ScreenedSample:
    numbers = {name: None if data[name] is None else float(data[name]) for name in ("projection", "own_projection")}
    return ScreenedSample(
        name=str(data["name"]),
        prompt=str(data["prompt"]),
        answer=str(data["answer"]),
        **numbers,
        own_answers=tuple(map(str, data["own_answers"])),
        planted=None if data["planted"] is None else bool(data["planted"]),
    )
