"""How far the answers a vector was made from point along it: one number for each answer and layer.

Read from the folder of the extraction; no model runs. Each answer is projected onto the unit direction made from the *other* half
of the questions, as the held-out statistics are, since any answers lie far out along a direction made from themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.residuals.cache import ResidualCache
from persona_interp.vectors.estimators import Estimator
from persona_interp.vectors.estimators import estimator as estimator_called
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.collection import rollout_key
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs, kept_pairs
from persona_interp.vectors.rollouts.pairs import halves_by_question
from persona_interp.vectors.rollouts.rollout import SIGNS, Rollout
from persona_interp.vectors.statistics import HALVES, PairedResiduals


@dataclass(frozen=True)
class PairProjections(Record):
    """Projections of the kept pairs, in activation units.

    Attributes:
        trait: name of the trait.
        model: name of the model.
        positions: how residuals were pooled.
        layers: 0-based blocks.
        positive: for each layer, one value a positive answer.
        negative: likewise; in the same order of the pairs.
        held_out: whether each answer was projected onto a direction made without its question. If not, there was nothing to hold
            out, and positives and negatives look further apart than they are.
    """

    json_kind = "projections of pairs"
    json_version = 1

    trait: str
    model: str
    positions: str
    layers: tuple[int, ...]
    positive: tuple[tuple[float, ...], ...]
    negative: tuple[tuple[float, ...], ...]
    held_out: bool

    def json_items(self) -> dict[str, Any]:
        """Numbers to six digits, with where they came from."""
        sides = {"positive": self.positive, "negative": self.negative}
        rounded = {side: [[float(f"{value:.6g}") for value in row] for row in rows] for side, rows in sides.items()}
        return {**super().json_items(), **rounded, "provenance": provenance()}


def pair_projections(folder: str | Path, vector: PersonaVector) -> PairProjections:
    """The projections of the answers that `vector` was made from.

    Example:
        >>> vector = extract(model, "silly", judge=judge, folder="runs/silly")
        >>> projection_figure(pair_projections("runs/silly", vector))

    Args:
        folder: of the extraction that made it.
        vector: says which answers were kept, how they were pooled, and by which estimator. What was done to it since does not
            matter: directions are made again.

    Raises:
        FileFormatError: the folder holds no extraction, or is damaged.
        InvalidInputError: the vector is of another extraction, or its file does not say how it was made.
    """
    folder = Path(folder)
    kept = kept_pairs(folder, vector)
    with ResidualCache(folder / "residuals") as cache:
        residuals = _residuals(cache, kept, vector)
        estimate = estimator_called(vector.estimator)
        pairs = [_projected(residuals, layer, estimate) for layer in vector.layers]
    return PairProjections(
        trait=vector.trait,
        model=vector.model.name,
        positions=vector.positions,
        layers=vector.layers,
        positive=tuple(positive for positive, _ in pairs),
        negative=tuple(negative for _, negative in pairs),
        held_out=residuals.split,
    )


def _residuals(cache: ResidualCache, kept: KeptPairs, vector: PersonaVector) -> PairedResiduals:
    """Where the residuals of the kept pairs are."""
    computed_in = getattr(torch, kept.dtype.removeprefix("torch."), torch.float32)

    def key(rollout: Rollout) -> str:
        return rollout_key(rollout, kept.model, computed_in)

    asked = [
        (one.conversation.question, other.conversation.question) for one, other in zip(kept.positive, kept.negative, strict=True)
    ]
    positive, negative = (tuple(map(key, kept.of(sign))) for sign in SIGNS)
    return PairedResiduals(cache, vector.positions, positive, negative, halves_by_question(asked))


def _projected(residuals: PairedResiduals, layer: int, estimate: Estimator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All positives and all negatives of one layer, each along the direction of the half it is not in."""
    texts = {sign: residuals.at_layer(sign, layer) for sign in (1, -1)}
    halves = torch.tensor(residuals.halves)
    values = {sign: torch.zeros(len(halves), dtype=torch.float64) for sign in (1, -1)}
    for half in HALVES if residuals.split else (0,):
        made_from = halves != half if residuals.split else halves == half
        direction = estimate(texts[1][made_from], texts[-1][made_from]).double()
        unit = direction / direction.norm().clamp_min(torch.finfo(torch.float64).tiny)
        for sign, seen in texts.items():
            values[sign][halves == half] = seen[halves == half].double() @ unit
    return tuple(values[1].tolist()), tuple(values[-1].tolist())
