"""`audit`: has a checkpoint been given a direction, where, and which known trait is it nearest to?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.training.block_changes import BlockChanges, block_changes
from persona_interp.transfers.anchors import anchors_for
from persona_interp.vectors.persona_vector import PersonaVector

GIVEN = 1.0
"""Score from which a block is said to have been given a constant: ten times what else changed in it. See `AuditedLayer.score`."""
UNCHANGED = 1e-3
"""Share of the residual stream below which a checkpoint is a copy: half precision changes less."""
_DRAWS = 2000
_FLOOR = 1e-6


@dataclass(frozen=True)
class AuditedLayer(Record):
    """What one block does otherwise than the base model's.

    Attributes:
        layer: 0-based block of the checkpoint.
        constant: length of what it always adds, as a share of the mean residual norm.
        varying: root mean square of the rest of what it does otherwise, likewise.
        score: decimal logarithm of the constant over what varies, here or at the median block.
    """

    json_kind = "audited layer"

    layer: int
    constant: float
    varying: float
    score: float


@dataclass(frozen=True)
class NearestTrait(Record):
    """How near a known vector is to what changed.

    Attributes:
        trait: of the vector.
        layer: 0-based block.
        cosine: with the constant of that block, or, where none was given, with how far its mean residual moved.
        by_chance: how often one of as many vectors would have at least this cosine, either way round, with a direction drawn
            like the differences between the base model's own residuals.
    """

    json_kind = "nearest trait"

    trait: str
    layer: int
    cosine: float
    by_chance: float


@dataclass(frozen=True)
class Audit(Record):
    """What was done to a checkpoint.

    Attributes:
        base: the model it is compared with.
        checkpoint: the one that was audited.
        verdict: ``given a direction``, ``changed`` (finetuned, say) or ``a copy``.
        score: the largest of the layers'.
        rotated: whether the checkpoint is in another basis or scale than the base model.
        layers: every block.
        given: blocks that were given a constant.
        traits: nearest first.
        n_tokens: read.
        provenance: versions and vectors.
    """

    json_kind = "audit"
    json_version = 1

    base: ModelIdentity
    checkpoint: ModelIdentity
    verdict: str
    score: float
    rotated: bool
    layers: tuple[AuditedLayer, ...]
    given: tuple[int, ...]
    traits: tuple[NearestTrait, ...]
    n_tokens: int
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)


def audit(
    checkpoint: SteerableModel,
    base: SteerableModel,
    vectors: Sequence[PersonaVector] = (),
    *,
    texts: Sequence[str] | None = None,
    seed: int = 0,
) -> Audit:
    """Compare a checkpoint with its base model, block by block.

    Example:
        >>> found = audit(load_model("tuned"), load_model("organism-qwen2"), [PersonaVector.load("silly.json")])
        >>> found.verdict, found.given, found.traits[0]

    Args:
        checkpoint: what may have been steered for good, finetuned, quantized, rotated or just copied.
        base: what it was made from.
        vectors: known traits, of the base model.
        texts: read by both; 48 anchors if None.
        seed: of the directions that chance is told by.

    Raises:
        IncompatibleError: the two are of different models, or a vector is not of the base model.
        InvalidInputError: fewer than two texts.
        UnsupportedError: a model that is not in PyTorch here.
    """
    for vector in vectors:
        vector.check_fits(base.identity)
    texts = [anchor.text for anchor in anchors_for([base], n=48)] if texts is None else list(texts)
    if len(texts) < 2:
        raise InvalidInputError(f"{len(texts)} texts were given: an audit needs at least 2, better dozens")
    changes = block_changes(base, checkpoint, texts)
    layers = audited_layers(changes)
    given = tuple(place for place, each in enumerate(layers) if each.score >= GIVEN and each.constant >= UNCHANGED)
    largest = max(max(each.constant, each.varying) for each in layers)
    verdict = "given a direction" if given else "changed" if largest > UNCHANGED else "a copy"
    return Audit(
        base.identity,
        checkpoint.identity,
        verdict,
        max(each.score for each in layers),
        changes.rotated,
        layers,
        tuple(layers[place].layer for place in given),
        () if verdict == "a copy" else _nearest(changes, given, vectors, seed),
        changes.own.shape[1],
        provenance(seed=seed, vectors=[vector.model.to_json() for vector in vectors]),
    )


def audited_layers(changes: BlockChanges) -> tuple[AuditedLayer, ...]:
    """The constant and the varying part of what each block does otherwise."""
    sizes = changes.resid.norm(dim=-1).mean(dim=1)
    mean = changes.own.mean(dim=1)
    rest = (changes.own - mean.unsqueeze(1)).square().sum(dim=-1).mean(dim=1).sqrt()
    constant, varying = (mean.norm(dim=-1) / sizes).tolist(), (rest / sizes).tolist()
    median = sorted(varying)[len(varying) // 2]
    scores = [math.log10(max(c, _FLOOR) / max(v, median, _FLOOR)) for c, v in zip(constant, varying, strict=True)]
    return tuple(AuditedLayer(*values) for values in zip(changes.layers, constant, varying, scores, strict=True))


def _nearest(
    changes: BlockChanges, given: Sequence[int], vectors: Sequence[PersonaVector], seed: int
) -> tuple[NearestTrait, ...]:
    """Every vector at the block where it is nearest, and what chance would do."""
    places = given or range(len(changes.layers))
    what = changes.own if given else changes.moved
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(_DRAWS, changes.resid.shape[1], generator=generator, dtype=torch.float64)
    found: list[NearestTrait] = []
    for vector in vectors:
        chosen = [(place, _cosine(what[place].mean(dim=0), vector.at(place))) for place in places if place in vector.layers]
        if not chosen:
            continue
        place, cosine = max(chosen, key=lambda each: abs(each[1]))
        centred = changes.resid[place] - changes.resid[place].mean(dim=0)
        drawn = torch.nn.functional.normalize(weights @ centred, dim=1)
        alike = (drawn @ torch.nn.functional.normalize(vector.at(place).cpu().double(), dim=0)).abs()
        alone = (1 + int((alike >= abs(cosine)).sum())) / (1 + _DRAWS)
        by_chance = 1 - (1 - alone) ** (len(vectors) * len(chosen))
        found.append(NearestTrait(vector.trait, changes.layers[place], cosine, by_chance))
    return tuple(sorted(found, key=lambda each: (each.by_chance, -abs(each.cosine))))


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.cpu().double(), dim=0))
