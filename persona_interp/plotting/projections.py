"""Where the answers behind a vector lie along it: histograms of positives and negatives, a layer at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from persona_interp.measure.statistics import auroc
from persona_interp.plotting.palette import BLACK, BLUE, VERMILION, styled, wrapped_title
from persona_interp.plotting.slider import first_row, with_layer_slider
from persona_interp.vectors.pair_projections import PairProjections

_FEWEST, _MOST = 8, 40
"""Bars of a histogram."""


def projection_figure(found: PairProjections, *, layer: int | None = None) -> go.Figure:
    """Histograms of both kinds of answer over their projections, with a slider over the layers. Lines are the means.

    Both kinds share their bins, which are made anew for each layer, since residuals grow from layer to layer. The heading gives
    the probability that a positive lies further out than a negative (AUROC). That describes geometry: a layer that separates well
    need not be one where steering works.

    Args:
        found: from `pair_projections`.
        layer: shown first; the middle one if None.

    Raises:
        InvalidInputError: `layer` is not among those projected, or there is no layer.
    """
    first = first_row(found.layers, layer, "projected")
    figure = go.Figure()
    for row in range(len(found.layers)):
        _histograms(figure, found, row, visible=row == first)
    layouts = [{"title.text": _heading(found, row), "shapes": _means(found, row)} for row in range(len(found.layers))]
    figure.update_xaxes(
        title_text=f"projection onto the unit {found.trait} direction (activation units)", automargin=True, title_standoff=8
    )
    figure.update_yaxes(title_text="answers (count)", rangemode="tozero")
    styled(figure, _heading(found, first), height=580, barmode="overlay", bargap=0.02, shapes=_means(found, first))
    return with_layer_slider(figure, found.layers, first, layouts, traces=2)


def _histograms(figure: go.Figure, found: PairProjections, row: int, *, visible: bool) -> None:
    positive, negative = found.positive[row], found.negative[row]
    drawn = (("negative answers", negative, BLUE, "/"), ("positive answers", positive, VERMILION, ""))
    for name, values, colour, pattern in drawn:
        figure.add_trace(
            go.Histogram(
                x=list(values),
                xbins=_bins([*positive, *negative]),
                autobinx=False,
                name=f"{len(values)} {name}",
                marker={"color": colour, "pattern": {"shape": pattern, "size": 6}, "line": {"width": 0.5, "color": colour}},
                opacity=0.6,
                visible=visible,
                hovertemplate=f"{name}<br>%{{x}}: %{{y}}<extra></extra>",
            )
        )


def _bins(values: Sequence[float]) -> dict[str, float]:
    """About as many bins as the root of the number of values, over all of them."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    number = min(_MOST, max(_FEWEST, round(math.sqrt(len(values)))))
    size = (high - low) / number or 1.0
    return {"start": low, "end": high + size * 1e-6, "size": size}


def _means(found: PairProjections, row: int) -> list[dict[str, Any]]:
    """A line at each mean, black so that it shows on either kind of bar."""
    sides = ((found.negative[row], "dot"), (found.positive[row], "dash"))
    return [
        {
            "type": "line",
            "x0": fmean(values),
            "x1": fmean(values),
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": BLACK, "dash": dash, "width": 1.6},
        }
        for values, dash in sides
        if values
    ]


def _heading(found: PairProjections, row: int) -> str:
    area = auroc(found.positive[row], found.negative[row])
    how = "each along the direction of the other questions" if found.held_out else "NOT held out: along their own direction"
    return wrapped_title(
        f"{found.trait} in {found.model}, layer {found.layers[row]}, {found.positions}, {how}<br>"
        f"AUROC {area}; mean of the negatives dotted, of the positives dashed"
    )
