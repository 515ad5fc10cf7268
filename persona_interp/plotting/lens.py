"""Which tokens a vector promotes and which it suppresses, read through the unembedding, a layer at a time."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.modulation.token_lens import TokenShift
from persona_interp.plotting.palette import BLACK, BLUE, VERMILION, styled, wrapped_title
from persona_interp.plotting.slider import first_row, with_layer_slider

_ROW = 19
"""Pixels a token."""


def lens_figure(
    shifts: Mapping[int, TokenShift],
    texts: Mapping[int, str],
    *,
    title: str,
    control: Mapping[int, TokenShift] | None = None,
    k: int = 12,
    layer: int | None = None,
) -> go.Figure:
    """The `k` tokens a vector makes likeliest and the `k` it makes least likely, as bars, with a slider over the layers.

    A bar is the change of the token's logit at coefficient 1, against that of the average token the model would write. Marks are
    the control's tokens of the same rank, whichever they are: what a direction without a meaning does just as well. How likely
    a token is where nothing is steered is on hover.

    Args:
        shifts: layer -> the vector read there, from `TokenLens.read`.
        texts: token id -> what it spells, such as `TokenTexts.by_id`; tokens that spell nothing are not drawn.
        title: of what.
        control: layer -> the same of another direction of the same norm, such as a random one.
        k: tokens on each side.
        layer: shown first; the middle one if None.

    Raises:
        InvalidInputError: no layer, one that was not read, or fewer than ``2 k`` tokens that spell something.
    """
    layers = sorted(shifts)
    first = first_row(layers, layer, "read")
    if len(texts) < 2 * k or k < 1:
        raise InvalidInputError(f"{2 * k} tokens were to be drawn, and {len(texts)} spell something: ask for fewer, at least 1")
    if control is not None and (missing := sorted(set(layers) - set(control))):
        raise InvalidInputError(f"the control was not read at layers {missing}, where the vector was: give it there too")
    figure = go.Figure()
    layouts: list[dict[str, Any]] = []
    for row, each in enumerate(layers):
        ids = _ends(shifts[each], texts, k)
        names = [_shown(texts[index]) for index in ids]
        figure.add_trace(_bars(shifts[each], ids, names, visible=row == first))
        if control is not None:
            figure.add_trace(_marks(control[each], _ends(control[each], texts, k), texts, visible=row == first))
        layouts.append({"title.text": wrapped_title(f"{title}, layer {each}"), "yaxis.ticktext": names})
    figure.update_xaxes(title_text="change of the logit at coefficient 1 (nats)", zeroline=True, zerolinecolor=BLACK)
    figure.update_yaxes(
        tickvals=list(range(2 * k)), ticktext=layouts[first]["yaxis.ticktext"], range=[2 * k - 0.5, -0.5], showgrid=False,
        tickfont={"family": "monospace", "size": 12}, automargin=True,
    )  # fmt: skip
    styled(figure, layouts[first]["title.text"], height=240 + 2 * k * _ROW, bargap=0.25)
    return with_layer_slider(figure, layers, first, layouts, traces=1 if control is None else 2)


def _ends(shift: TokenShift, texts: Mapping[int, str], k: int) -> list[int]:
    """The ids that rise most, largest first, then those that fall most, the lowest last."""
    ranked = sorted(texts, key=lambda index: -float(shift.logits[index]))
    return ranked[:k] + ranked[-k:]


def _bars(shift: TokenShift, ids: list[int], names: list[str], *, visible: bool) -> go.Bar:
    values = [float(shift.logits[index]) for index in ids]
    return go.Bar(
        orientation="h",
        x=values,
        y=list(range(len(ids))),
        name="the vector",
        marker={"color": [VERMILION if value > 0 else BLUE for value in values]},
        customdata=[
            f"{name}: {value:+.3g}<br>probability where nothing is steered {float(shift.probabilities[index]):.2g}"
            for name, value, index in zip(names, values, ids, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
        visible=visible,
    )


def _marks(shift: TokenShift, ids: list[int], texts: Mapping[int, str], *, visible: bool) -> go.Scatter:
    values = [float(shift.logits[index]) for index in ids]
    said = [f"control, same rank: {_shown(texts[index])} {value:+.3g}" for index, value in zip(ids, values, strict=True)]
    return go.Scatter(
        x=values, y=list(range(len(ids))), name="control, same rank", mode="markers",
        marker={"symbol": "line-ns", "size": 13, "line": {"width": 2.5, "color": BLACK}},
        customdata=said, hovertemplate="%{customdata}<extra></extra>", visible=visible,
    )  # fmt: skip


def _shown(text: str) -> str:
    """With its quotes, so that a space in front is seen; never read as HTML."""
    return html.escape(repr(text))
