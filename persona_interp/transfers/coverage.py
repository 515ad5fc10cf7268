"""Coverage: how much of a vector the anchors let one see, before a token is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.transfers.anchor_rows import AnchorRows

VARIANCE = 0.9
"""Share of the held-out variance that the subspace spanned by the anchors' states holds."""
ENOUGH = {"states": 0.7, "effects": 0.6}
"""Support below which a warning is due. By effects it is 0.65 to 0.95 on the planted organisms with all styles among the anchors,
and at most 0.53 without the trait's own; by states, vectors with less than 0.5 were not carried."""
_RANDOM = 200


@dataclass(frozen=True)
class Coverage:
    """What anchors cover of one direction in the source, 0 to 1 each; None where the rows needed were not read.

    Attributes:
        norm: share of its squared norm within the leading principal directions of the anchors' states, as many as hold 90 % of
            the variance of anchors that were held out.
        effect: share of its first-order effect on the anchors that is left when it is projected onto them (a regression slope,
            cut to 0 to 1).
        signal: one minus the variance of random directions' effects on the anchors over its own: 0 where the vector does no more
            to these texts than chance.
    """

    norm: float | None
    effect: float | None
    signal: float | None

    def support(self, kind: str, quality: Mapping[str, float]) -> float | None:
        """What an alignment can be expected to carry, 0 to 1; None where it is not known.

        Of ``effects``: the signal, times the correlation of effects on anchors that were held out; of ``states``: the smaller of
        norm and effect.
        """
        if kind == "effects":
            return None if self.signal is None else self.signal * max(0.0, quality["correlation"])
        known = [value for value in (self.norm, self.effect) if value is not None]
        return min(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def coverage(source: AnchorRows, layer: int, direction: Float[Tensor, " d_model"]) -> Coverage:
    """What the anchors, as the source reads them, cover of `direction` at `layer`."""
    v = direction.double()
    norm = effect = signal = None
    effects = source.rows("effects", layer) if "effects" in source.kinds else None
    if "states" in source.kinds:
        seen = _projected(source.rows("states", layer), v)
        norm = float(seen.square().sum() / v.square().sum())
        if effects is not None:
            own, left = _centred(effects @ v), _centred(effects @ seen)
            effect = min(1.0, max(0.0, float(own @ left / own.square().sum())))
    if effects is not None:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(_RANDOM, len(v), generator=generator, dtype=torch.float64)
        drawn = drawn / drawn.norm(dim=1, keepdim=True) * v.norm()
        chance = (effects @ drawn.T).var(dim=0).mean()
        signal = max(0.0, 1.0 - float(chance / (effects @ v).var()))
    return Coverage(norm, effect, signal)


def _projected(states: Float[Tensor, "row d_model"], v: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """`v` within the principal directions of three quarters of the states that explain the others."""
    held_out = torch.arange(len(states)) % 4 == 3
    mean = states[~held_out].mean(dim=0)
    fitted, others = states[~held_out] - mean, states[held_out] - mean
    _, vectors = torch.linalg.eigh(fitted.T @ fitted)
    axes = vectors.flip(1)
    explained = (others @ axes).square().mean(dim=0)
    share = explained.cumsum(0) / explained.sum()
    kept = axes[:, : int((share < VARIANCE).sum()) + 1]
    return kept @ (kept.T @ v)


def _centred(values: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
    return values - values.mean()
