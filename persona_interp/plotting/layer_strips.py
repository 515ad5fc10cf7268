"""A text token by token, with a strip of colour under it for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.monitoring.projection import ChatProjection, Projections
from persona_interp.plotting.palette import BLACK, diverging, styled
from persona_interp.plotting.tokens import COLUMNS, UNITS, Cell, colour_range, laid_out

_TEXT, _GAP = 24, 16
"""Pixels of a line of text, and below its strips."""
_LABELLED = 14
"""Pixels a layer's label needs."""


def layer_strips_figure(seen: Projections, chat: ChatProjection, layers: Sequence[int] | None = None) -> go.Figure:
    """The text of one conversation in lines; under each line a strip for every layer, each token in the colour of its projection.

    Projections grow from layer to layer, so every layer has a scale of its own, the same for all conversations of `seen`: white
    is the median over all their tokens, and full colour the distance that 98 % of them keep. The numbers on hover are the
    projections themselves.

    Args:
        seen: from `project`, with tokens.
        chat: one of its conversations.
        layers: some of those that were read; all of them if None.

    Raises:
        InvalidInputError: a layer was not read, none was given, or the conversation was projected without its tokens.
    """
    chosen = sorted(seen.layers if layers is None else set(layers))
    if not chosen:
        raise InvalidInputError("no layer was given to draw: give at least one, or None for all that were read")
    rows = [seen.row(layer) for layer in chosen]
    ranges = [colour_range(seen, row) for row in rows]
    cells, marks = laid_out(chat)
    pixels = max(7, min(18, 240 // len(chosen)))  # of a strip
    block = _TEXT + pixels * len(chosen) + _GAP
    figure = go.Figure()
    ticks: dict[float, str] = {}
    every = -(-_LABELLED // pixels)
    for line, grouped in groupby(cells, key=lambda cell: cell.line):
        tokens, top = list(grouped), float(line * block)
        ticks[top + _TEXT / 2] = f"<b>{marks.get(line, '')}</b>"
        bottom = top + _TEXT + pixels * len(chosen)
        for place in range(0, len(chosen), every):
            ticks[bottom - pixels * (place + 0.5)] = str(chosen[place])
        edges = [bottom - pixels * place for place in range(len(chosen) + 1)]
        figure.add_trace(_strips(tokens, chosen, rows, ranges, edges))
        figure.add_trace(_words(tokens, top + _TEXT / 2))
    height = (cells[-1].line + 1) * block
    figure.update_xaxes(range=[0, COLUMNS], visible=False, fixedrange=True)
    figure.update_yaxes(
        range=[height, 0], tickvals=list(ticks), ticktext=list(ticks.values()), showgrid=False, zeroline=False,
        fixedrange=True, automargin=False, tickfont={"size": 11},
        title={"text": "layer (0-based block, its output)", "font": {"size": 12}},
    )  # fmt: skip
    colours = {
        "colorscale": diverging(),
        "cmin": -1,
        "cmax": 1,
        "colorbar": {
            "title": {"text": _BAR, "font": {"size": 11}}, "tickfont": {"size": 11}, "thickness": 12, "lenmode": "pixels",
            "len": 240, "y": 1, "yanchor": "top",
        },
    }  # fmt: skip
    title = f"{chat.name}: {seen.trait} in {seen.model.name}, projections in {UNITS[seen.unit]}"
    margin = {"b": 20, "l": 90, "r": 10}
    return styled(figure, title, legend="none", height=max(320, height + 110), margin=margin, coloraxis=colours)


_BAR = "distance from<br>the layer's median<br>(1: 98 % of tokens<br>are nearer)"


def _strips(
    tokens: Sequence[Cell],
    layers: Sequence[int],
    rows: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    edges: Sequence[float],
) -> go.Heatmap:
    """One line's strips, the first layer lowest."""
    return go.Heatmap(
        x=[*(cell.column for cell in tokens), tokens[-1].column + tokens[-1].width],
        y=list(edges),
        z=[[(c.values[row] - centre) / reach for c in tokens] for row, (centre, reach) in zip(rows, ranges, strict=True)],
        coloraxis="coloraxis",
        xgap=1,
        ygap=0.5,
        customdata=[[cell.hover(layer, row) for cell in tokens] for layer, row in zip(layers, rows, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _words(tokens: Sequence[Cell], y: float) -> go.Scatter:
    return go.Scatter(
        x=[cell.column + cell.width / 2 for cell in tokens],
        y=[y] * len(tokens),
        mode="text",
        text=[cell.text for cell in tokens],
        textfont={"family": "monospace", "size": 12, "color": BLACK},
        hoverinfo="skip",
        cliponaxis=False,
    )
