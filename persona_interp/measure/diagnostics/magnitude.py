"""Hypothesis A: the direction is right and its length wrong. Measured by norms against the residual streams."""

from __future__ import annotations

from typing import Any

from persona_interp.measure.diagnostics.fixes import Fixes
from persona_interp.measure.diagnostics.layer_correspondence import LayerCorrespondence
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.vectors.persona_vector import PersonaVector


def magnitude_measurements(
    found: Fixes,
    layers: LayerCorrespondence,
    source: AnchorRows,
    target: AnchorRows,
    vector: PersonaVector,
    native: PersonaVector,
    native_layer: int,
) -> dict[str, Any]:
    """Norms and perturbation ratios (at coefficient 1) of the vector as it is, as it is fixed, and of the target's own.

    What is ``by_layer`` has one value a layer, of the source or the target as its name says; None where a vector lacks the layer.
    ``stream_ratio_by_layer`` is, for each layer of the source, the mean residual norm of the target's layer that
    corresponds to it over its own.
    """
    at, to = layers.source_layer, layers.matched
    own = float(native.at(native_layer).double().norm())
    streams = zip(layers.path, source.resid_norms, strict=True)
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
        "stream_ratio_by_layer": [target.resid_norms[other] / norm for other, norm in streams],
        "unfixed_perturbation_ratio_by_layer": [found.naive.norm / norm for norm in target.resid_norms],
        "source_perturbation_ratio_by_layer": _ratios(vector, source),
        "native_perturbation_ratio_by_layer": _ratios(native, target),
    }


def _ratios(vector: PersonaVector, rows: AnchorRows) -> list[float | None]:
    norms = dict(zip(vector.layers, vector.norms.tolist(), strict=True))
    return [norms[layer] / size if layer in norms else None for layer, size in enumerate(rows.resid_norms)]
