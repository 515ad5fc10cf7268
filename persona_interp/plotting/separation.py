"""How far apart positive and negative answers lie along a vector, layer by layer."""

from __future__ import annotations

import math
from statistics import fmean, variance

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import auroc
from persona_interp.plotting.palette import BLUE, VERMILION, styled
from persona_interp.vectors.pair_projections import PairProjections


def separation_figure(found: PairProjections) -> go.Figure:
    """Both kinds of answer at every layer as halves of a violin, in the spread of one kind; above it the AUROC.

    Projections grow from layer to layer. They are shown from half way between the two means, in units of the standard deviation
    within one kind of answer, so that layers compare. That describes geometry: a layer that separates well need not be one where
    steering works.

    Raises:
        InvalidInputError: fewer than two answers of a kind.
    """
    if min((len(values) for values in (*found.positive, *found.negative)), default=0) < 2:
        raise InvalidInputError("separation needs at least two answers of each kind: extract with more questions or samples")
    figure = go.Figure()
    drawn = (("negative answers", found.negative, BLUE, "negative"), ("positive answers", found.positive, VERMILION, "positive"))
    scales = [_scale(positive, negative) for positive, negative in zip(found.positive, found.negative, strict=True)]
    for name, values, colour, side in drawn:
        figure.add_trace(
            go.Violin(
                x=[layer for layer, row in zip(found.layers, values, strict=True) for _ in row],
                y=[
                    round((value - middle) / spread, 3)
                    for row, (middle, spread) in zip(values, scales, strict=True)
                    for value in row
                ],
                name=f"{len(values[0])} {name}",
                side=side,
                line={"color": colour, "width": 1.2},
                fillcolor=colour,
                opacity=0.75,
                points=False,
                meanline={"visible": True, "color": "white"},
                scalemode="width",
                width=0.9,
                spanmode="hard",
                hovertemplate="layer %{x}<br>%{y:.2f} standard deviations<extra></extra>",
            )
        )
    areas = [auroc(positive, negative) for positive, negative in zip(found.positive, found.negative, strict=True)]
    for layer, area in zip(found.layers, areas, strict=True):
        text = "–" if area.value is None else f"{area.value:.2f}"
        figure.add_annotation(x=layer, y=1.0, yref="paper", yanchor="bottom", text=text, showarrow=False, hovertext=str(area))
    figure.add_annotation(
        x=-0.005, xref="paper", xanchor="right", y=1.0, yref="paper", yanchor="bottom", text="AUROC", showarrow=False
    )
    figure.update_xaxes(
        title_text="layer (0-based block, its output)", title_font_size=14, dtick=1, showgrid=False, zeroline=False
    )
    figure.update_yaxes(title_text="projection from the midpoint<br>(standard deviations within a kind)")
    figure.update_yaxes(title_font_size=14, zeroline=True)
    how = "each along the direction of the other questions" if found.held_out else "NOT held out: along their own direction"
    title = f"Answers for and against {found.trait} in {found.model}, {found.positions}, {how}"
    styled(figure, title, legend="beside", height=520, violingap=0, violinmode="overlay")
    return figure.update_layout(margin={"t": 100})


def _scale(positive: tuple[float, ...], negative: tuple[float, ...]) -> tuple[float, float]:
    """Half way between the means, and the standard deviation within one kind."""
    spread = math.sqrt((variance(positive) + variance(negative)) / 2)
    return (fmean(positive) + fmean(negative)) / 2, spread or 1.0
