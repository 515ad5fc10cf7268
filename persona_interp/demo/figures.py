"""The library's figures made to fit a page that may be a phone's: no title over several lines, a legend below, little margin."""

from __future__ import annotations

import plotly.graph_objects as go

from persona_interp.plotting.palette import wrapped_title

_WIDTH = 44
"""Characters in a line above a panel."""


def compact(figure: go.Figure, height: int = 360) -> go.Figure:
    """`figure` without its title, which the page says itself; returns the same object."""
    figure.update_layout(
        title=None,
        height=height,
        autosize=True,
        width=None,
        margin={"l": 62, "r": 14, "t": 34, "b": 46},
        legend={"orientation": "h", "yanchor": "top", "y": -0.26, "xanchor": "left", "x": 0, "font": {"size": 12}},
        font={"size": 12},
    )
    figure.update_yaxes(title_font_size=11)
    figure.for_each_annotation(lambda each: each.update(text=wrapped_title(each.text, _WIDTH), font_size=11))
    return figure
