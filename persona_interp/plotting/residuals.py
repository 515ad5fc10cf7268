"""The residual stream a vector was made from: how long it is at each layer, and which dimensions dwarf the others."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.plotting.palette import BLUE, GREEN, GREY, VERMILION, colour_and_symbol, log_axis, styled
from persona_interp.vectors.massive import DIRECTION_SHARE, MEDIAN_RATIO, MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector

_NAMED = 12
"""Dimensions with a colour of their own; the rest are shown together."""
_NORMS, _RATIOS, _SHARES = 1, 2, 3
"""Rows of the figure."""


def residual_figure(vector: PersonaVector) -> go.Figure:
    """Norms of the residual stream, and the dimensions that stand out in it, layer by layer, in three panels.

    Dimensions are those of `PersonaVector.massive`: at most five a layer, listed where the mean absolute value is a hundred times
    the layer's median, or where they hold a quarter of the direction's squared norm. Others are not drawn, and where none is
    listed there is one panel only. A layer without a recorded norm leaves a gap.
    """
    massive = vector.massive
    titles = (
        "Length of the residual stream" if massive else "Length of the residual stream (no massive dimension is recorded)",
        "Massive dimensions: mean size against the layer's median dimension",
        "Their share of the vector: above the line a single dimension swamps it",
    )
    n_rows = _SHARES if massive else _NORMS
    figure = make_subplots(rows=n_rows, cols=1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles[:n_rows])
    _norms(figure, vector)
    if massive:
        _dimensions(figure, massive)
        ratios = log_axis([MEDIAN_RATIO, *(each.median_ratio for each in massive)])
        figure.update_yaxes(title_text="mean |h| over median<br>(times)", **ratios, row=_RATIOS, col=1)
        figure.update_yaxes(title_text="share of squared norm<br>(0 to 1)", range=[-0.03, 1.03], row=_SHARES, col=1)
        for row, level in ((_RATIOS, MEDIAN_RATIO), (_SHARES, DIRECTION_SHARE)):
            figure.add_hline(y=level, line={"color": GREY, "dash": "dot", "width": 1}, row=row, col=1)  # pyright: ignore[reportArgumentType]
    first, last = vector.layers[0], vector.layers[-1]
    figure.update_xaxes(range=[first - 0.6, last + 0.6], dtick=max(1, (last - first + 1) // 16), zeroline=False)
    figure.update_xaxes(title_text="layer (0-based block, its output)", row=n_rows, col=1)
    title = f"Residual stream of {vector.model.name} in answers for and against {vector.trait}"
    return styled(figure, title, legend="beside", height=900 if massive else 460)


def _norms(figure: go.Figure, vector: PersonaVector) -> None:
    drawn = (
        ("mean norm of single positions", "resid_norm", BLUE, "circle", "solid"),
        ("norm of the positives' mean", "positive_norm", VERMILION, "diamond", "dash"),
        ("norm of the negatives' mean", "negative_norm", GREEN, "square", "dot"),
    )
    recorded = [value for _, statistic, *_ in drawn for value in vector.listed(statistic)]
    figure.update_yaxes(title_text="norm<br>(activation units)", **log_axis(recorded), row=_NORMS, col=1)
    for name, statistic, colour, symbol, dash in drawn:
        values = vector.listed(statistic)
        if any(value is not None for value in values):
            figure.add_trace(
                go.Scatter(
                    x=list(vector.layers),
                    y=list(values),
                    name=name,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash},
                    marker={"symbol": symbol, "size": 7},
                    connectgaps=False,
                    hovertemplate=f"layer %{{x}}<br>{name} %{{y:.4g}}<extra></extra>",
                ),
                row=_NORMS,
                col=1,
            )


def _dimensions(figure: go.Figure, massive: Sequence[MassiveDimension]) -> None:
    largest: dict[int, float] = {}
    for each in massive:
        largest[each.dimension] = max(each.median_ratio, largest.get(each.dimension, 0.0))
    ranked = sorted(largest, key=lambda dimension: (-largest[dimension], dimension))
    for number, dimension in enumerate(ranked[:_NAMED]):
        colour, symbol = colour_and_symbol(number)
        _series(figure, f"dimension {dimension}", [each for each in massive if each.dimension == dimension], colour, symbol)
    if rest := ranked[_NAMED:]:
        others = [each for each in massive if each.dimension in rest]
        _series(figure, f"{len(rest)} other dimensions", others, GREY, "circle-open", lines=False)


def _series(
    figure: go.Figure, name: str, entries: Sequence[MassiveDimension], colour: str, symbol: str, *, lines: bool = True
) -> None:
    """The same dimensions in both panels. A layer where a dimension does not stand out interrupts its line."""
    found = sorted(entries, key=lambda each: each.layer)
    known = {each.layer: each for each in found}
    listed = [known.get(layer) for layer in range(found[0].layer, found[-1].layer + 1)] if lines else list(found)
    for row, values in (
        (_RATIOS, [None if each is None else each.median_ratio for each in listed]),
        (_SHARES, [None if each is None else each.direction_share for each in listed]),
    ):
        figure.add_trace(
            go.Scatter(
                x=list(range(found[0].layer, found[-1].layer + 1)) if lines else [each.layer for each in found],
                y=values,
                name=name,
                mode="lines+markers" if lines else "markers",
                line={"color": colour, "width": 1},
                marker={"symbol": symbol, "size": 9, "color": colour},
                connectgaps=False,
                customdata=["" if each is None else _text(each) for each in listed],
                hovertemplate="%{customdata}<extra></extra>",
                legendgroup=name,
                showlegend=row == _RATIOS,
            ),
            row=row,
            col=1,
        )


def _text(each: MassiveDimension) -> str:
    return (
        f"<b>layer {each.layer}, dimension {each.dimension}</b><br>mean |h| {each.mean_abs:.4g}, "
        f"{each.median_ratio:.3g} times the median<br>{each.direction_share:.1%} of the vector's squared norm"
    )
