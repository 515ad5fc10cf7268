"""Texts in the plane of the two directions in which their residuals differ most, a layer at a time."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.plotting import hover
from persona_interp.plotting.palette import BLACK, colour_and_symbol, styled, wrapped_title
from persona_interp.plotting.slider import first_row, with_layer_slider
from persona_interp.residuals.components import PrincipalComponents


def components_figure(found: PrincipalComponents, *, title: str = "Residuals", layer: int | None = None) -> go.Figure:
    """A point a text along the first two components, coloured by group, with a slider over the layers; texts on hover.

    Groups had no part in the components: where they come apart, it is because they differ more than anything else does. A line
    through the middle is the direction the components were compared with, as long within the plane as its cosines say, drawn
    once the points' reach. The heading gives the shares of variance, and these cosines.

    Args:
        found: from `principal_components`, with at least two of them.
        title: of what.
        layer: shown first; the middle one if None.

    Raises:
        InvalidInputError: fewer than two components, or a layer that is not there.
    """
    if found.coordinates.shape[2] < 2:
        raise InvalidInputError("one component has no plane to be drawn in: ask principal_components for k=2")
    first = first_row(found.layers, layer, "read")
    groups = tuple(dict.fromkeys(found.groups))
    figure = go.Figure()
    for row in range(len(found.layers)):
        for number, group in enumerate(groups):
            figure.add_trace(_points(found, row, group, number, visible=row == first))
        if found.cosines is not None:
            figure.add_trace(_direction(found, row, visible=row == first))
    figure.update_xaxes(title_text="first component (activation units)", zeroline=True, automargin=True, title_standoff=8)
    figure.update_yaxes(title_text="second component (activation units)", scaleanchor="x", zeroline=True)
    layouts = [{"title.text": _heading(found, row, title)} for row in range(len(found.layers))]
    styled(figure, layouts[first]["title.text"], height=640)
    traces = len(groups) + (found.cosines is not None)
    return with_layer_slider(figure, found.layers, first, layouts, traces=traces)


def _points(found: PrincipalComponents, row: int, group: str, number: int, *, visible: bool) -> go.Scatter:
    members = [place for place, name in enumerate(found.groups) if name == group]
    colour, symbol = colour_and_symbol(number)
    shown = found.coordinates[row, members]
    return go.Scatter(
        x=shown[:, 0].tolist(),
        y=shown[:, 1].tolist(),
        name=group,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.75},
        customdata=[hover.wrapped(found.texts[place]) if found.texts else "" for place in members],
        hovertemplate=f"{group}<br>%{{customdata}}<extra></extra>",
        visible=visible,
    )


def _direction(found: PrincipalComponents, row: int, *, visible: bool) -> go.Scatter:
    cosines = found.cosines[row] if found.cosines is not None else found.coordinates.new_zeros(2)
    reach = float(found.coordinates[row, :, :2].abs().max())
    x, y = (cosines[:2] * reach).tolist()
    return go.Scatter(
        x=[-x, x], y=[-y, y], name="the vector, seen in this plane", mode="lines",
        line={"color": BLACK, "dash": "dash", "width": 2}, hoverinfo="skip", visible=visible,
    )  # fmt: skip


def _heading(found: PrincipalComponents, row: int, title: str) -> str:
    shares: list[Any] = found.explained[row, :2].tolist()
    text = f"{title}, layer {found.layers[row]}: {shares[0]:.0%} and {shares[1]:.0%} of the variance"
    if found.cosines is not None:
        along = found.cosines[row, :2].tolist()
        text += f"<br>cosine of the vector with the first component {along[0]:.2f}, with the second {along[1]:.2f}"
    return wrapped_title(text)
