"""Hypothesis B: the direction is in another basis. Measured by maps between the states of the layers that correspond."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.methods import alignment_method
from persona_interp.alignment.similarity import principal_angles
from persona_interp.measure.diagnostics.fixes import Fixes, padded
from persona_interp.measure.diagnostics.layer_correspondence import LayerCorrespondence
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.carry import HELD_OUT

N_AXES = 8
"""Leading principal directions whose subspaces are compared."""
MAPS = {"identity": "naive", "rotation": "procrustes", "general": "ridge"}


def basis_measurements(
    found: Fixes, layers: LayerCorrespondence, source: AnchorRows, target: AnchorRows, native: Float[Tensor, " d_model"]
) -> dict[str, Any]:
    """Held-out R2 of three kinds of maps, principal angles before and after, and cosines to the target's own vector.

    The target's own vector is measured against only, never fitted on.
    """
    own, other = source.rows("states", layers.source_layer), target.rows("states", layers.matched)
    held_out = torch.arange(len(own)) % HELD_OUT == HELD_OUT - 1
    fitted = {name: alignment_method(method).fit(own[~held_out], other[~held_out]) for name, method in MAPS.items()}
    axes, others = _leading(own), _leading(other)
    before = torch.stack([padded(axis, target.model.d_model) for axis in axes])
    angles = {"before": before, "after": fitted["rotation"].transform_directions(axes)}
    return {
        "method": found.method,
        "held_out_r2": {name: each.score(own[held_out], other[held_out]).r2 for name, each in fitted.items()},
        "principal_angles_degrees": {
            name: [float(angle) for angle in principal_angles(each, others).rad2deg()] for name, each in angles.items()
        },
        "cosine_to_native_before": float(found.naive.unit @ native.double() / native.double().norm()),
        "cosine_to_native_after": float(found.full.unit @ native.double() / native.double().norm()),
        "cosine_before_to_after": float(found.naive.unit @ found.full.unit),
    }


def _leading(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "axis d_model"]:
    return torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)[2][:N_AXES]
