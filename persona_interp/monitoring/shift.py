"""The result of `finetuning_shift`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import check_format_version

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LayerShift:
    """What happened at one layer, in activation units.

    Attributes:
        layer: 0-based block.
        shift: mean over the prompts of the projection onto the unit direction, finetuned minus base.
        low: lower end of its 95 % interval (Student's t over the prompts).
        high: upper end.
        distance: how far the mean residual moved, in any direction.
        cosine: shift over distance: 1 where all of the movement is along the vector.
        by_chance: how often a random direction has a cosine at least this large, either way round.
        norm: of the vector; shift over norm is the shift in vector lengths.
    """

    layer: int
    shift: float
    low: float
    high: float
    distance: float
    cosine: float
    by_chance: float
    norm: float


@dataclass(frozen=True)
class TraitShift:
    """The shift along one vector, layer by layer."""

    trait: str
    layers: tuple[LayerShift, ...]


@dataclass(frozen=True)
class FinetuningShift:
    """What finetuning did along some persona vectors.

    Attributes:
        base: the checkpoint before.
        finetuned: the one after.
        positions: ``prompt_last`` or ``response_avg``.
        n_prompts: how many were read.
        traits: one entry a vector.
        provenance: versions, and the vectors' models.
    """

    base: ModelIdentity
    finetuned: ModelIdentity
    positions: str
    n_prompts: int
    traits: tuple[TraitShift, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives an equal object back."""
        return {
            "format_version": FORMAT_VERSION,
            "base": self.base.to_json(),
            "finetuned": self.finetuned.to_json(),
            "positions": self.positions,
            "n_prompts": self.n_prompts,
            "traits": [{"trait": each.trait, "layers": [asdict(at) for at in each.layers]} for each in self.traits],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "finetuning shift") -> FinetuningShift:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        check_format_version(data, FORMAT_VERSION, source)
        try:
            return cls(
                base=ModelIdentity.from_json(data["base"], source=source),
                finetuned=ModelIdentity.from_json(data["finetuned"], source=source),
                positions=str(data["positions"]),
                n_prompts=int(data["n_prompts"]),
                traits=tuple(
                    TraitShift(str(each["trait"]), tuple(_layer_from_json(at) for at in each["layers"]))
                    for each in data["traits"]
                ),
                provenance=dict(data["provenance"]),
            )
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{source}: a field is malformed ({error})") from error


def _layer_from_json(data: Mapping[str, Any]) -> LayerShift:
    names = ("shift", "low", "high", "distance", "cosine", "by_chance", "norm")
    return LayerShift(int(data["layer"]), **{name: float(data[name]) for name in names})
