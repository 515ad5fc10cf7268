"""What a reproduction found: evaluations and transfers, as they were written to disk step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.records import Record
from persona_interp.studies.reproduction.claims import claims


@dataclass(frozen=True)
class Extracted:
    """One vector.

    Attributes:
        model: name.
        trait: name.
        layer: the block that steers best, by the likelihood score.
        reason: why, in words.
        ratio: perturbation ratio of the vector there at coefficient 1.
        counts: kept pairs and the like, as the vector records them.
        scores: layer -> score.
    """

    model: str
    trait: str
    layer: int
    reason: str
    ratio: float | None
    counts: Mapping[str, Any]
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Reproduction(Record):
    """All of a run.

    Attributes:
        preset: what was asked for.
        extracted: a vector a model and trait.
        evaluations: each of them steering its own model.
        transfers: each carried into another model.
        modulations: ways of steering the first model as GGUF; empty where that is not part of the preset.
        seconds: step -> wall-clock time when it was made.
        provenance: versions and seed.
    """

    json_kind = "reproduction"
    json_version = 1

    preset: Mapping[str, Any]
    extracted: tuple[Extracted, ...]
    evaluations: tuple[Evaluation, ...]
    transfers: tuple[TransferEvaluation, ...]
    modulations: tuple[Modulated, ...]
    seconds: Mapping[str, float]
    provenance: Mapping[str, Any] = field(compare=False)

    def json_items(self) -> dict[str, Any]:
        """With the claims as they follow from the rest."""
        items = super().json_items()
        return {"preset": items.pop("preset"), "claims": claims(self), **items}
