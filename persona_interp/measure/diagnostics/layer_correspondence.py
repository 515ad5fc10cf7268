"""Hypothesis C: the vector enters the wrong layer. Measured by what both models make of the same texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.layer_map import equal_depth, layer_map
from persona_interp.alignment.methods import EFFECTS, alignment_method
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.carry import HELD_OUT, carry
from persona_interp.transfers.correspondence import correspondence

SHARED = 0.9
"""Held-out R2 of a rotation with one scale, from which on two models are taken to have one stream in two bases."""
TIE = 1e-4
"""Similarities this close are equal: a block that writes nothing has the residual of the one before it."""


@dataclass(frozen=True, eq=False)
class LayerCorrespondence:
    """Which layer of the target does what the source's layer does.

    Attributes:
        source_layer: 0-based block the direction is of.
        naive: the same index, or equal depth where the target has no such block; at least the first that can be steered.
        matched: the layer that corresponds; of equals `naive` if it is among them, else the earliest.
        ties: all layers as good as `matched`.
        similarity: debiased linear CKA of all pairs of layers, which neither rotation nor scale moves.
        path: the target's layer for each of the source's, never going back.
        shared_stream: a rotation explains the held-out states of the matched pair; then layers go by similarity, else by the
            gain of matched effects.
        rotation_r2: that R2, at the most similar layer.
    """

    source_layer: int
    naive: int
    matched: int
    ties: tuple[int, ...]
    similarity: Float[Tensor, "source_layer target_layer"]
    path: tuple[int, ...]
    shared_stream: bool
    rotation_r2: float

    @property
    def shift(self) -> int:
        """How many blocks the matched layer lies behind the naive one."""
        return self.matched - self.naive

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        shifts = [target - source for source, target in enumerate(self.path)]
        return {
            "source_layer": self.source_layer,
            "same_index": self.naive,
            "matched_layer": self.matched,
            "ties": list(self.ties),
            "shift": self.shift,
            "mean_shift_of_all_layers": sum(shifts) / len(shifts),
            "layer_path": list(self.path),
            "similarity": self.similarity.tolist(),
            "shared_stream": self.shared_stream,
            "rotation_r2": self.rotation_r2,
        }


def layer_correspondence(
    direction: Float[Tensor, " d_source"], source: AnchorRows, target: AnchorRows, layer: int
) -> LayerCorrespondence:
    """Match the source's `layer` with one of the target.

    Args:
        direction: of the source, for the gain.
        source: rows of the source.
        target: of the target, of the same anchors.
        layer: 0-based.
    """
    similarity = correspondence(source, target, "cka")
    row = similarity[layer, target.first_layer :]
    ties = tuple(place for place, value in enumerate(row.tolist(), start=target.first_layer) if value > float(row.max()) - TIE)
    own, other = source.rows("states", layer), target.rows("states", ties[0])
    held_out = slice(HELD_OUT - 1, None, HELD_OUT)
    kept = [place for place in range(len(own)) if place % HELD_OUT != HELD_OUT - 1]
    r2 = alignment_method("procrustes").fit(own[kept], other[kept]).score(own[held_out], other[held_out]).r2
    shared = r2 >= SHARED
    matched = ties[0]
    if not shared and all("effects" in rows.kinds for rows in (source, target)):
        layers = list(target.steerable_layers)
        gains = carry(direction, source, target, source_layer=layer, target_layers=layers, method=EFFECTS)
        matched = max(gains, key=lambda each: each.score).layer
        ties = (matched,)
    naive = max(target.first_layer, layer if layer < target.n_layers else equal_depth(layer, source.n_layers, target.n_layers))
    return LayerCorrespondence(
        layer, naive, naive if naive in ties else matched, ties, similarity, layer_map(similarity, "monotone"), shared, r2
    )
