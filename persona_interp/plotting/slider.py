"""A slider over the layers of a figure: some traces are shown at a time, under a title of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.vectors.validation import layer_spans


def first_row(layers: Sequence[int], layer: int | None, what: str) -> int:
    """The row of `layer`, or the middle one if None.

    Raises:
        InvalidInputError: it is not among `layers`, or there is none.
    """
    if not layers or (layer is not None and layer not in layers):
        known = layer_spans(tuple(layers)) if layers else "none"
        raise InvalidInputError(f"layer {layer} was not {what}: there are layers {known} (0-based)")
    return list(layers).index(layer) if layer is not None else len(layers) // 2


def with_layer_slider(
    figure: go.Figure, layers: Sequence[int], first: int, layouts: Sequence[dict[str, Any]], *, traces: int
) -> go.Figure:
    """`figure`, whose traces stand in order of the layers, `traces` of them a layer, with a slider; returns the same object.

    Args:
        figure: is changed.
        layers: labels of the slider.
        first: row that is shown first.
        layouts: what else changes with each layer, such as ``{"title.text": ...}``.
        traces: how many belong to one layer.
    """
    steps: list[dict[str, Any]] = []
    for row, layer in enumerate(layers):
        visible = [place // traces == row for place in range(traces * len(layers))]
        steps.append({"label": str(layer), "method": "update", "args": [{"visible": visible}, layouts[row]]})
    slider = {"active": first, "steps": steps, "currentvalue": {"prefix": "layer "}, "pad": {"t": 70}, "font": {"size": 11}}
    return figure.update_layout(hovermode="closest", margin={"b": 110}, sliders=[slider] if len(steps) > 1 else [])
