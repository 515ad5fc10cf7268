"""What is left of a persona vector's effect in quantized files."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.dots import add_key, dots, lanes, share_panels, shared_range
from persona_interp.plotting.palette import BLUE, GREY, SYMBOLS, styled
from persona_interp.studies.reproduction.quantized_steering import QuantizedSteering


def quantization_figure(found: Sequence[QuantizedSteering]) -> go.Figure:
    """Share of the slope in PyTorch that the PyTorch model's vector has on each kind of weights.

    There is a marker for each model and a panel for each trait. Grey is a random direction as long, on the same weights.
    Intervals (95 %) are over questions.

    Raises:
        InvalidInputError: there is nothing to draw.
    """
    if not found:
        raise InvalidInputError("there are no weights to draw: give at least one")
    weights = list(dict.fromkeys(each.weights for each in found))
    models = list(dict.fromkeys(each.model for each in found))
    traits = list(dict.fromkeys(each.trait for each in found))
    reach = shared_range([estimate for each in found for estimate in (each.share, each.random)], 0, 1)
    figure = share_panels(traits, weights, "share of the slope in PyTorch", reach)
    for column, trait in enumerate(traits, start=1):
        for model, symbol, lane in zip(models, SYMBOLS, lanes(len(models)), strict=False):
            mine = [each for each in found if (each.trait, each.model) == (trait, model)]
            places = [weights.index(each.weights) for each in mine]
            name = model.removeprefix("organism-")
            for what, colour, estimates in (
                ("its vector", BLUE, [each.share for each in mine]),
                ("a random direction", GREY, [each.random for each in mine]),
            ):
                texts = [f"{each.weights}, {trait}: {what} at layer {each.layer}<br>{_said(each)}" for each in mine]
                series = dots(estimates, places, name, (colour, symbol), texts=texts, lane=lane, in_legend=False)
                figure.add_trace(series, row=1, col=column)
    add_key(figure, models, "any, random direction")
    title = "What steering with the full-precision vector does in quantized weights"
    return styled(figure, title, legend="beside", height=170 + 62 * len(weights))


def _said(each: QuantizedSteering) -> str:
    coherence = "–" if each.coherence is None else f"{each.coherence:.0f}"
    return f"its own vector has a cosine of {each.cosines[each.layer]:.3f} with it<br>coherence at least {coherence}"
