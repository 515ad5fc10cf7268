"""Which layer to steer at when nobody names one: by what was measured, else by geometry, and said to be which."""

from __future__ import annotations

from dataclasses import dataclass

from persona_interp.errors import InvalidInputError
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import layer_spans

_MIDDLE = 0.6
"""Relative depth tried where nothing is recorded; published best layers lie between half and two thirds of the depth."""


@dataclass(frozen=True)
class LayerChoice:
    """A layer and, in words for the person steering, what the choice rests on."""

    layer: int
    reason: str


def choose_layer(vector: PersonaVector, first_layer: int = 0) -> LayerChoice:
    """The layer with the highest effectiveness, where the vector records one (`LayerEffectiveness.recorded_in`).

    Else the one with the largest norm ratio among those that separate as well as the best one, on held-out rollouts. A vector
    turned round, whose AUROC is one minus what it was, gets the same layer. That is geometry, not behaviour: how well a layer
    separates positives from negatives does not say how well steering there works. Where no statistic is recorded either, the
    layer nearest to 60 % of the depth is taken.

    Args:
        vector: any.
        first_layer: the first at which the model can be steered (`SteerableModel.first_steerable_layer`): 1 for GGUF files.

    Raises:
        InvalidInputError: the vector has no layer from there on.
    """
    if vector.layers[0] < first_layer:
        usable = [layer for layer in vector.layers if layer >= first_layer]
        if not usable:
            raise InvalidInputError(
                f"the vector {vector.trait!r} of {vector.model.name} has layers {layer_spans(vector.layers)} only, and this "
                f"model can be steered from layer {first_layer} on: extract one at more layers"
            )
        vector = vector.select(usable)
    measured = {layer: score for layer, score in zip(vector.layers, vector.effectiveness, strict=False) if score is not None}
    if measured:
        layer = max(measured, key=lambda layer: measured[layer])
        method = vector.provenance.get("effectiveness", {}).get("method", "an unnamed method")
        return LayerChoice(
            layer, f"layer {layer}: the most effective of {len(measured)} by {method} (score {measured[layer]:.3g})"
        )
    separation = [0.0 if value is None else max(value, 1 - value) for value in vector.listed("auroc")]
    ratios = vector.listed("norm_ratio")
    if separation and any(ratio is not None for ratio in ratios):
        best = max(separation)
        rows = [row for row, value in enumerate(separation) if value >= best - 0.02]
        row = max(rows, key=lambda row: ratios[row] or 0.0)
        found = f"held-out AUROC {separation[row]:.2f}, norm {ratios[row] or 0.0:.2f} of the mean residual"
        return LayerChoice(
            vector.layers[row],
            f"layer {vector.layers[row]}: {found}. This is geometry, not behaviour: it does not say that steering works there; "
            "persona-interp layer-effectiveness measures that",
        )
    target = _MIDDLE * (vector.model.n_layers - 1)
    layer = min(vector.layers, key=lambda layer: (abs(layer - target), layer))
    return LayerChoice(
        layer,
        f"layer {layer}: the file records no held-out statistics, so this is only the layer nearest to 60 % of the depth. "
        "Nothing was measured: try others with --layer",
    )
