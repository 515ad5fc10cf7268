"""What is steered with: a layer, a unit direction and a length, each as it comes from the source or fixed for the target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.methods import alignment_method
from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import Fixed
from persona_interp.measure.diagnostics.layer_correspondence import LayerCorrespondence
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.carry import carry

SAME_COSINE, SAME_NORM = 0.9999, 0.005
"""From this cosine on, and up to this relative difference of length, a fix changes nothing and is not measured again."""


@dataclass(frozen=True, eq=False)
class Push:
    """What is added at coefficient 1.

    Attributes:
        layer: 0-based block of the target.
        unit: direction of length 1 in the target's stream.
        norm: its length.
    """

    layer: int
    unit: Float[Tensor, " d_model"]
    norm: float

    @property
    def direction(self) -> Float[Tensor, " d_model"]:
        """As it is added."""
        return self.unit * self.norm


@dataclass(frozen=True, eq=False)
class Fixes:
    """The push as the source would have it, and as it is with all three causes fixed. Any mixture of the two is an arm.

    Attributes:
        naive: the source's entries cut or padded, as long as they are, at the same index or at equal depth where there is none.
        full: through the map of states or effects, at the perturbation ratio of the source, at the layer that corresponds.
        method: the map that was used. Models that share one stream up to a rotation are mapped by it; others by effects. Both are
            linear maps of directions; effects find where a direction goes that the states of texts hardly vary along, and on
            exact twins the two agree.
        by_states: the direction by a ridge map of states instead, where `full` is by effects, to tell what states alone say.
    """

    naive: Push
    full: Push
    method: str
    by_states: Float[Tensor, " d_model"] | None = None

    def push(self, fixed: Fixed) -> Push:
        """The push with some causes fixed; each fix sets exactly one of layer, direction and length."""
        return Push(
            self.full.layer if "layers" in fixed else self.naive.layer,
            self.full.unit if "basis" in fixed else self.naive.unit,
            self.full.norm if "magnitude" in fixed else self.naive.norm,
        )


def fixes(direction: Float[Tensor, " d_source"], source: AnchorRows, target: AnchorRows, layers: LayerCorrespondence) -> Fixes:
    """Both ends, from the source's direction and what the two models make of the anchors.

    The map is fitted at the pair of layers that correspond and used in all arms, and so is the length: at another layer, the map
    could make up for the wrong layer.

    Raises:
        InvalidInputError: the direction is zero.
    """
    v = direction.double()
    norm = float(v.norm())
    if norm == 0:
        raise InvalidInputError("the vector is zero at the layer it is taken from: there is nothing to carry")
    at, to = layers.source_layer, layers.matched
    method = "procrustes" if layers.shared_stream else "effects"
    if method == "effects" and not all("effects" in rows.kinds for rows in (source, target)):
        method = "ridge"
    by_states = None
    if method == "procrustes":  # of the two kinds of maps of states, the one whose turn keeps all directions apart
        fitted = alignment_method("procrustes").fit(source.rows("states", at), target.rows("states", to))
        mapped = fitted.transform_directions(v[None])[0]
    else:
        mapped = carry(v, source, target, source_layer=at, target_layers=[to], method=method)[0].direction
        if method == "effects":
            by_states = _unit(carry(v, source, target, source_layer=at, target_layers=[to], method="ridge")[0].direction)
    cut = padded(v, target.model.d_model)
    if float(cut.norm()) == 0:
        raise InvalidInputError("the entries of the vector that the target has room for are all zero: carry it by a map")
    naive_unit, unit = _unit(cut), _unit(mapped)
    calibrated = norm / source.resid_norms[at] * target.resid_norms[to]
    if float(naive_unit @ unit) > SAME_COSINE:
        unit = naive_unit
    if abs(calibrated / norm - 1) < SAME_NORM:
        calibrated = norm
    return Fixes(Push(layers.naive, naive_unit, norm), Push(to, unit, calibrated), method, by_states)


def _unit(v: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    return v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)


def padded(v: Float[Tensor, " d_source"], width: int) -> Float[Tensor, " d_target"]:
    """Entries cut or padded with zeros to another width."""
    found = torch.zeros(width, dtype=v.dtype)
    kept = min(width, len(v))
    found[:kept] = v[:kept]
    return found
