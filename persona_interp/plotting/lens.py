"""Which tokens a vector promotes and which it suppresses, read through the unembedding, a layer at a time."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from persona_interp.attribution.vector_lens import LayerTokens, TokenLogit, VectorLens
from persona_interp.plotting.palette import BLACK, BLUE, GREY, VERMILION, styled, wrapped_title
from persona_interp.plotting.slider import first_row, with_layer_slider

_ROW = 22
"""Pixels a token."""


def lens_figure(found: VectorLens, *, layer: int | None = None) -> go.Figure:
    """The tokens that each layer's direction raises most and lowers most, as bars, with a slider over the layers.

    A bar is the change of the token's logit at coefficient 1, against that of the average token the model would write. Dotted:
    how far a random direction of the same norm moves its own first token, either way.

    Args:
        found: of `vector_lens`.
        layer: shown first; the middle one if None.

    Raises:
        InvalidInputError: the layer was not read.
    """
    layers = [each.layer for each in found.layers]
    first = first_row(layers, layer, "read")
    figure = go.Figure()
    layouts: list[dict[str, Any]] = []
    for row, each in enumerate(found.layers):
        tokens = _down(each)
        names = [_shown(token.text) for token in tokens]
        figure.add_trace(_bars(tokens, visible=row == first))
        figure.add_trace(_chance(each, len(tokens), visible=row == first))
        title = f"Tokens that {found.trait} at layer {each.layer} of {found.model} promotes and suppresses, by {found.reading}"
        places = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
        layouts.append({"title.text": wrapped_title(title), **{f"yaxis.{name}": value for name, value in places.items()}})
    figure.update_xaxes(title_text="change of the logit at coefficient 1 (nats)", zeroline=True, zerolinecolor=BLACK)
    figure.update_yaxes(showgrid=False, tickfont={"family": "monospace", "size": 12}, automargin=True)
    most = max(len(_down(each)) for each in found.layers)
    styled(figure, layouts[first]["title.text"], height=250 + _ROW * most, bargap=0.25)
    figure.update_layout(layouts[first])
    return with_layer_slider(figure, layers, first, layouts, traces=2)


def _down(each: LayerTokens) -> list[TokenLogit]:
    """From the token raised most to the one lowered most."""
    return [*each.promoted, *reversed(each.suppressed)]


def _bars(tokens: list[TokenLogit], *, visible: bool) -> go.Bar:
    return go.Bar(
        orientation="h",
        x=[token.logit for token in tokens],
        y=list(range(len(tokens))),  # by place, not by name: two tokens may spell the same
        name="the vector",
        marker={"color": [VERMILION if token.logit > 0 else BLUE for token in tokens]},
        customdata=[f"{_shown(token.text)} (id {token.token}): {token.logit:+.3g}" for token in tokens],
        hovertemplate="%{customdata}<extra></extra>",
        visible=visible,
    )


def _chance(each: LayerTokens, n_rows: int, *, visible: bool) -> go.Scatter:
    up, down = each.chance
    top, bottom = -0.5, n_rows - 0.5
    return go.Scatter(
        x=[up, up, None, down, down], y=[top, bottom, None, top, bottom], name="a random direction's first token", mode="lines",
        line={"dash": "dot", "color": GREY, "width": 2}, hovertemplate="%{x:+.3g}<extra>a random direction</extra>",
        visible=visible,
    )  # fmt: skip


def _shown(text: str) -> str:
    """With its quotes, so that a space in front is seen; never read as HTML."""
    return html.escape(repr(text))
