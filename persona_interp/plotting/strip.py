"""What a persona vector saw in conversations: drift over the turns, and every token in the colour of its projection."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.monitoring.projection import ChatProjection, Projections
from persona_interp.plotting import hover
from persona_interp.plotting.palette import BLACK, colour_and_symbol, diverging, styled
from persona_interp.plotting.tokens import COLUMNS, UNITS, Cell, colour_range, laid_out

_LINE = 26
"""Height of a line of the strip in pixels."""


def drift_figure(seen: Projections, layer: int) -> go.Figure:
    """Mean projection of each turn's answer, and of the last prompt token before it, turn by turn; a line a conversation.

    Values are as they are: nothing is subtracted. Turns without an answer leave a gap in the answers' line.

    Raises:
        InvalidInputError: `layer` was not read.
    """
    row = seen.row(layer)
    figure = go.Figure()
    for place, chat in enumerate(seen.chats):
        colour, symbol = colour_and_symbol(place)
        numbers = list(range(1, len(chat.turns) + 1))
        said = [hover.wrapped(turn.prompt if turn.prompt else (turn.answer or ""), lines=4) for turn in chat.turns]
        means = [None if turn.answer_mean is None else turn.answer_mean[row] for turn in chat.turns]
        lasts = [None if turn.prompt_last is None else turn.prompt_last[row] for turn in chat.turns]
        drawn = (("answer, mean", means, "solid", 9), ("last prompt token", lasts, "dot", 5))
        for name, values, dash, size in drawn:
            figure.add_trace(
                go.Scatter(
                    x=numbers,
                    y=values,
                    name=f"{chat.name}: {name}",
                    mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 2 if dash == "solid" else 1},
                    marker={"symbol": symbol if dash == "solid" else f"{symbol}-open", "size": size},
                    customdata=said,
                    hovertemplate="%{y:.3g}<br>%{customdata}",
                    connectgaps=False,
                    legendgroup=chat.name,
                )
            )
    figure.update_xaxes(title_text="turn", dtick=1 if max(len(chat.turns) for chat in seen.chats) < 20 else None)
    figure.update_yaxes(title_text=f"projection onto {seen.trait}<br>({UNITS[seen.unit]})")
    title = f"{seen.trait} in {seen.model.name}, layer {layer}, turn by turn"
    return styled(figure, title, legend="beside", height=480)  # many conversations would not fit above the figure


def strip_figure(seen: Projections, chat: ChatProjection | Sequence[ChatProjection], layer: int) -> go.Figure:
    """The text of conversations, each token in the colour of its projection at one layer; token and value on hover.

    Colours are the same for all conversations of `seen`: white at the median over all their tokens (`colour_range`). The numbers
    on hover are the projections themselves.

    Args:
        seen: from `project`, with tokens.
        chat: one of its conversations, or several to stand below each other under their names.
        layer: one of those that were read.

    Raises:
        InvalidInputError: `layer` was not read, no conversation was given, or one was projected without its tokens.
    """
    row = seen.row(layer)
    chats = [chat] if isinstance(chat, ChatProjection) else list(chat)
    if not chats:
        raise InvalidInputError("no conversation was given to draw: give at least one")
    cells, marks, names = _stacked(chats)
    centre, reach = colour_range(seen, row)
    n_lines = cells[-1].line + 1
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=[cell.width for cell in cells],
            base=[cell.column for cell in cells],
            y=[cell.line for cell in cells],
            width=0.86,
            text=[cell.text for cell in cells],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            textfont={"family": "monospace", "size": 12, "color": BLACK},
            marker={
                "color": [cell.values[row] for cell in cells],
                "colorscale": diverging(),
                "cmin": centre - reach,
                "cmax": centre + reach,
                "line": {"width": 0.4, "color": "#D8D8D8"},
                "colorbar": {"title": {"text": f"projection<br>({UNITS[seen.unit]})", "font": {"size": 11}}, "thickness": 12},
            },
            customdata=[cell.hover(layer, row) for cell in cells],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, COLUMNS], visible=False, fixedrange=True)
    figure.update_yaxes(
        range=[n_lines - 0.5, -0.5], tickvals=list(marks), ticktext=list(marks.values()), showgrid=False, zeroline=False,
        fixedrange=True, tickfont={"size": 11},
    )  # fmt: skip
    for line, name in names.items():
        figure.add_annotation(x=0, y=line, text=f"<b>{html.escape(name)}</b>", showarrow=False, xanchor="left", font={"size": 13})
    height, margin = 130 + max(4, n_lines) * _LINE, {"b": 20, "l": 80, "r": 10}
    what = f"{chats[0].name}: {seen.trait}" if len(chats) == 1 else f"{seen.trait} in {seen.model.name}"
    return styled(figure, f"{what}, layer {layer}", legend="none", height=height, bargap=0, margin=margin)


def _stacked(chats: Sequence[ChatProjection]) -> tuple[list[Cell], dict[int, str], dict[int, str]]:
    """All conversations in lines, what begins in which line, and where names stand if there are several."""
    cells: list[Cell] = []
    marks: dict[int, str] = {}
    names: dict[int, str] = {}
    for chat in chats:
        first = cells[-1].line + 1 if cells else 0
        if len(chats) > 1:
            names[first] = chat.name
            first += 1
        own, begun = laid_out(chat)
        cells += [replace(cell, line=cell.line + first) for cell in own]
        marks |= {line + first: mark for line, mark in begun.items()}
    return cells, marks, names
