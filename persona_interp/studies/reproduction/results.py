"""What a reproduction found: evaluations and transfers, as they were written to disk step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.storage import check_format_version

FORMAT_VERSION = 1


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
class Reproduction:
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

    preset: Mapping[str, Any]
    extracted: tuple[Extracted, ...]
    evaluations: tuple[Evaluation, ...]
    transfers: tuple[TransferEvaluation, ...]
    modulations: tuple[Modulated, ...]
    seconds: Mapping[str, float]
    provenance: Mapping[str, Any] = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the claims as they follow from the rest."""
        from persona_interp.studies.reproduction.claims import claims

        return {
            "format_version": FORMAT_VERSION,
            "preset": dict(self.preset),
            "claims": [claim.to_json() for claim in claims(self)],
            "extracted": [vars(each) for each in self.extracted],
            "evaluations": [each.to_json() for each in self.evaluations],
            "transfers": [each.to_json() for each in self.transfers],
            "modulations": [each.to_json() for each in self.modulations],
            "seconds": dict(self.seconds),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "reproduction") -> Reproduction:
        """The inverse of `to_json`; claims are made again.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        check_format_version(data, FORMAT_VERSION, source)
        try:
            return cls(
                preset=data["preset"],
                extracted=tuple(Extracted(**each) for each in data["extracted"]),
                evaluations=tuple(Evaluation.from_json(each, source=source) for each in data["evaluations"]),
                transfers=tuple(TransferEvaluation.from_json(each, source=source) for each in data["transfers"]),
                modulations=tuple(Modulated.from_json(each) for each in data["modulations"]),
                seconds=data["seconds"],
                provenance=data["provenance"],
            )
        except (KeyError, TypeError) as error:
            raise FileFormatError(f"{source}: a field is missing or malformed ({error!r})") from error
