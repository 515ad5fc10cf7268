"""Estimates below each other with their intervals, one panel beside another: shares of an effect among their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.evaluation.statistics import Estimate
from persona_interp.plotting import hover
from persona_interp.plotting.palette import GREEN, GREY, styled

_ENDS = (-1.5, 2.5)
"""An interval that reaches further is cut by the frame: a single wide one would press all others together."""
_ROW_HEIGHT = 36


@dataclass(frozen=True)
class Row:
    """One estimate.

    Attributes:
        name: on the axis; the same name in several panels is the same row.
        estimate: with its interval.
        colour: of marker and interval.
        symbol: of the marker, so that no meaning rests on colour alone.
        note: more for the hover.
    """

    name: str
    estimate: Estimate
    colour: str
    symbol: str = "circle"
    note: str = ""


def forest(panels: Mapping[str, Sequence[Row]], *, title: str, unit: str) -> go.Figure:
    """Panels side by side, each a column of estimates; lines mark 0 (no effect) and 1 (all of it).

    Several rows of one name in a panel lie just below each other. An estimate without a value is marked as undefined.

    Args:
        panels: heading -> rows, from the top.
        title: of the figure.
        unit: on the axis of the values.
    """
    names = list(dict.fromkeys(row.name for rows in panels.values() for row in rows))
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(panels))
    for column, rows in enumerate(panels.values(), start=1):
        seen: dict[str, int] = {}
        alike = {name: sum(row.name == name for row in rows) for name in names}
        for row in rows:
            place = seen[row.name] = seen.get(row.name, -1) + 1
            y = names.index(row.name) + (place - (alike[row.name] - 1) / 2) * 0.7 / alike[row.name]
            figure.add_trace(_marker(row, y, alone=alike[row.name] == 1), row=1, col=column)
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)  # pyright: ignore[reportArgumentType]
        figure.add_vline(x=1, line={"color": GREEN, "width": 1.5}, row=1, col=column)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title_text=unit, range=_range([row.estimate for rows in panels.values() for row in rows]), zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6], zeroline=False, automargin=True
    )
    return styled(figure, title, legend="none", height=190 + _ROW_HEIGHT * len(names))


def _marker(row: Row, y: float, *, alone: bool) -> go.Scatter:
    value, low, high = row.estimate.value, row.estimate.low, row.estimate.high
    known = value is not None and low is not None and high is not None
    text = "undefined" if value is None else f"{value:.2f}"
    said = hover.lines(f"<b>{row.name}</b>", hover.with_interval(row.estimate, 2) if value is not None else text, row.note)
    return go.Scatter(
        x=[0.0 if value is None else value],
        y=[y],
        name=row.name,
        mode="markers+text" if alone else "markers",
        text=[text],
        textposition="top center",
        textfont={"size": 11},
        marker={"size": 11 if alone else 8, "symbol": "x-thin-open" if value is None else row.symbol, "color": row.colour},
        error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low], "thickness": 1.4}
        if known
        else None,
        customdata=[said],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _range(estimates: Sequence[Estimate]) -> list[float]:
    ends = [end for each in estimates for end in (each.value, each.low, each.high) if end is not None]
    low, high = min([0.0, *ends]), max([1.0, *ends])
    values = [each.value for each in estimates if each.value is not None]
    return [min(max(low, _ENDS[0]), *values, 0.0) - 0.15, max(min(high, _ENDS[1]), *values, 1.0) + 0.15]
