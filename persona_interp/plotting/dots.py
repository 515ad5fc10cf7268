"""Estimates as dots with their intervals, in rows: how many things compare on one scale."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import BLUE, GREY, SYMBOLS

_LANES, _APART = 0.74, 0.2
"""Share of the height of a row that its dots are spread over at most, and that two of them are apart at most."""


def lanes(number: int) -> list[float]:
    """How far each of so many series lies from the middle of its row, so that dots of equal value stand above each other."""
    if number < 2:
        return [0.0] * number
    reach = min(_LANES, _APART * (number - 1))
    return [reach * (place / (number - 1) - 0.5) for place in range(number)]


def dots(
    estimates: Sequence[Estimate],
    rows: Sequence[float],
    name: str,
    look: tuple[str, str],
    *,
    texts: Sequence[str],
    lane: float = 0.0,
    size: int = 9,
    in_legend: bool = True,
) -> go.Scatter:
    """One series: an estimate a row, with its 95 % interval. What is not defined leaves its row empty.

    Args:
        estimates: one for each of `rows`.
        rows: where they stand, counted from 0.
        name: of the series.
        look: colour and marker.
        texts: what each row is, for hover.
        lane: share of a row by which the series stands lower, see `lanes`.
        size: of the markers.
        in_legend: whether the series has an entry of its own there.
    """
    colour, symbol = look
    return go.Scatter(
        x=[each.value for each in estimates],
        y=[row + lane for row in rows],
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": 1.4}},
        error_x=interval_bars(estimates, color=colour, thickness=1.2, width=0),
        customdata=[f"{html.escape(text)}<br>{html.escape(name)}: {each}" for text, each in zip(texts, estimates, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
        legendgroup=name,
        showlegend=in_legend,
    )


def shared_range(estimates: Iterable[Estimate], *also: float) -> list[float]:
    """From the lowest end of an interval to the highest, and over `also`, so that panels beside each other compare."""
    ends = [end for each in estimates for end in (each.low, each.value, each.high) if end is not None]
    low, high = min([*ends, *also]), max([*ends, *also])
    return [low - 0.04 * (high - low), high + 0.04 * (high - low)]


def row_axis(names: Sequence[str]) -> dict[str, Any]:
    """The axis of `names`, the first one at the top."""
    return {
        "range": [len(names) - 0.5, -0.5],
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
    }


def add_row_lines(figure: go.Figure, number: int, column: int) -> None:
    """Thin lines between the `number` rows of one of the panels beside each other, which count from 1."""
    suffix = "" if column == 1 else str(column)
    for row in range(1, number):
        figure.add_shape(
            type="line", layer="below", xref=f"x{suffix} domain", yref=f"y{suffix}", x0=0, x1=1, y0=row - 0.5, y1=row - 0.5,
            line={"color": "#E2E2E2", "width": 1},
        )  # fmt: skip


def share_panels(titles: Sequence[str], rows: Sequence[str], unit: str, reach: Sequence[float]) -> go.Figure:
    """Empty panels beside each other for dots in the same rows, on a scale where 0 is nothing and 1 the whole.

    Args:
        titles: one a panel.
        rows: their names, from the top.
        unit: what the scale counts.
        reach: both ends of it, see `shared_range`.
    """
    figure = make_subplots(rows=1, cols=len(titles), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles)
    for column in range(1, len(titles) + 1):
        add_row_lines(figure, len(rows), column)
    for place in (0, 1):
        for column in range(1, len(titles) + 1):
            line = {"color": GREY, "width": 1, "dash": "dot" if place else "solid"}
            suffix = "" if column == 1 else str(column)
            figure.add_shape(type="line", xref=f"x{suffix}", yref="paper", x0=place, x1=place, y0=0, y1=1, line=line)
    figure.update_xaxes(title_text=unit, title_font_size=14, zeroline=False, dtick=0.5, range=list(reach))
    return figure.update_yaxes(**row_axis(rows))


def add_key(figure: go.Figure, models: Sequence[str], other: str) -> None:
    """A legend in which a marker stands for a model, whatever its colour, and grey for `other`."""
    named = [(model.removeprefix("organism-"), BLUE, symbol) for model, symbol in zip(models, SYMBOLS, strict=False)]
    for name, colour, symbol in (*named, (other, GREY, SYMBOLS[0])):
        marker = {"symbol": symbol, "size": 9, "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))
