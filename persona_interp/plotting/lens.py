"""Which tokens a vector promotes and suppresses, a layer at a time."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from persona_interp.attribution.vector_lens import LayerTokens, TokenLogit, VectorLens
from persona_interp.plotting.palette import BLUE, GREY, VERMILION, styled, wrapped_title
from persona_interp.plotting.slider import first_row, with_layer_slider

_ROW, _FEWEST = 22, 8
"""Pixels a token, and tokens there is room for at least."""


def vector_lens_figure(found: VectorLens, layer: int | None = None) -> go.Figure:
    """The tokens that the vector promotes and suppresses most, as bars, with a slider over the layers.

    Dotted lines are how far a random direction of the same norm gets: what does not reach them means nothing.

    Args:
        found: from `vector_lens`.
        layer: shown first; the middle one if None.

    Raises:
        InvalidInputError: the layer was not read.
    """
    layers = [each.layer for each in found.layers]
    first = first_row(layers, layer, "read")
    figure = go.Figure([_bars(each, visible=row == first) for row, each in enumerate(found.layers)])
    layouts = [_layout(found, each) for each in found.layers]
    rows = max(len(_shown(each)) for each in found.layers)
    figure.update_yaxes(tickfont={"family": "monospace", "size": 12}, showgrid=False, automargin=True)
    figure.update_xaxes(title_text="change of the token's logit at coefficient 1, against the average token (nats)")
    room = 120 if len(layers) > 1 else 0
    styled(figure, layouts[first]["title.text"], legend="none", height=200 + room + _ROW * max(_FEWEST, rows))
    figure.update_layout(layouts[first])
    return with_layer_slider(figure, layers, first, layouts, traces=1) if room else figure


def _shown(tokens: LayerTokens) -> list[tuple[TokenLogit, str]]:
    """From below: the most suppressed first, the most promoted last, each with its colour."""
    suppressed = [(token, BLUE) for token in tokens.suppressed]
    return [*suppressed, *((token, VERMILION) for token in reversed(tokens.promoted))]


def _bars(tokens: LayerTokens, *, visible: bool) -> go.Bar:
    rows = _shown(tokens)
    return go.Bar(
        # by place, not by name: two tokens may spell the same
        y=list(range(len(rows))),
        x=[token.logit for token, _ in rows],
        orientation="h",
        marker_color=[colour for _, colour in rows],
        customdata=[f"{html.escape(repr(token.text))} (id {token.token})" for token, _ in rows],
        hovertemplate="%{customdata}<br>%{x:.3f}<extra></extra>",
        visible=visible,
    )


def _layout(found: VectorLens, tokens: LayerTokens) -> dict[str, Any]:
    """What differs from layer to layer besides the bars."""
    rows = _shown(tokens)
    chance = [
        {"type": "line", "x0": end, "x1": end, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": GREY, "dash": "dot"}}
        for end in tokens.chance
    ]
    title = (
        f"Tokens that {found.trait} at layer {tokens.layer} of {found.model} promotes and suppresses, by {found.reading} "
        "(dotted: a random direction)"
    )
    return {
        "title.text": wrapped_title(title),
        "yaxis.tickvals": list(range(len(rows))),
        "yaxis.ticktext": [html.escape(repr(token.text)) for token, _ in rows],
        "shapes": chance,
    }
