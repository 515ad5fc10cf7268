"""The result of `finetuning_shift`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record


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
class FinetuningShift(Record):
    """What finetuning did along some persona vectors.

    Attributes:
        base: the checkpoint before.
        finetuned: the one after.
        positions: ``prompt_last`` or ``response_avg``.
        n_prompts: how many were read.
        traits: one entry a vector.
        provenance: versions, and the vectors' models.
    """

    json_kind = "finetuning shift"
    json_version = 1

    base: ModelIdentity
    finetuned: ModelIdentity
    positions: str
    n_prompts: int
    traits: tuple[TraitShift, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)
