"""Hypothesis A: the direction is right and its length wrong. Measured by norms against the residual streams."""

from __future__ import annotations

from typing import Any

from persona_interp.diagnostics.fixes import Fixes
from persona_interp.diagnostics.layer_correspondence import LayerCorrespondence
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.vectors.persona_vector import PersonaVector


def magnitude_measurements(
    found: Fixes, layers: LayerCorrespondence, source: AnchorRows, target: AnchorRows, native: PersonaVector, native_layer: int
) -> dict[str, Any]:
    """Norms and perturbation ratios (at coefficient 1) of the vector as it is, as it is fixed, and of the target's own."""
    at, to = layers.source_layer, layers.matched
    own = float(native.at(native_layer).double().norm())
    return {
        "norm": found.naive.norm,
        "fixed_norm": found.full.norm,
        "norm_ratio": found.full.norm / found.naive.norm,
        "source_perturbation_ratio": found.naive.norm / source.resid_norms[at],
        "unfixed_perturbation_ratio": found.naive.norm / target.resid_norms[to],
        "native_norm": own,
        "native_perturbation_ratio": own / target.resid_norms[native_layer],
        "resid_norms_source": list(source.resid_norms),
        "resid_norms_target": list(target.resid_norms),
        "unfixed_perturbation_ratio_by_layer": [found.naive.norm / norm for norm in target.resid_norms],
    }
