"""What a persona vector saw in conversations: drift over the turns, and every token in the colour of its projection."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.monitoring.projection import ChatProjection, Projections, TurnProjection
from persona_interp.plotting.palette import BLACK, colour_and_symbol, styled

_UNITS = {"activation": "activation units", "vector_length": "vector lengths"}
_COLUMNS = 96
_LINE = 26
"""Characters in a line of the strip, and its height in pixels."""

# Blue below, vermilion above, white between: told apart with any common kind of colour blindness, and black text stays legible.
_SCALE = [[0.0, "#5AA9DC"], [0.5, "#FFFFFF"], [1.0, "#F09A5E"]]


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
        hover = [_wrapped(turn.prompt if turn.prompt else (turn.answer or "")) for turn in chat.turns]
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
                    customdata=hover,
                    hovertemplate="%{y:.3g}<br>%{customdata}",
                    connectgaps=False,
                    legendgroup=chat.name,
                )
            )
    figure.update_xaxes(title_text="turn", dtick=1 if max(len(chat.turns) for chat in seen.chats) < 20 else None)
    figure.update_yaxes(title_text=f"projection onto {seen.trait}<br>({_UNITS[seen.unit]})")
    title = f"{seen.trait} in {seen.model.name}, layer {layer}, turn by turn"
    return styled(figure, title, legend="beside", height=480)  # many conversations would not fit above the figure


def strip_figure(seen: Projections, chat: ChatProjection, layer: int) -> go.Figure:
    """The text of one conversation, each token in the colour of its projection; token and value on hover.

    Colours are the same for all conversations of `seen`: centred on the median over all their tokens, and reaching to the 98th
    percentile of the distances from it, so that one odd token (a first token is often one) does not bleach the others. The
    numbers on hover are the projections themselves.

    Raises:
        InvalidInputError: `layer` was not read, or the conversation was projected without its tokens.
    """
    row = seen.row(layer)
    cells, marks = _laid_out(chat, row)
    centre, reach = _colours(seen, row)
    n_lines = cells[-1].line + 1
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=[cell.width for cell in cells],
            base=[cell.column for cell in cells],
            y=[cell.line for cell in cells],
            width=0.86,
            text=[html.escape(cell.shown).replace(" ", "\u00a0") for cell in cells],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            textfont={"family": "monospace", "size": 12, "color": BLACK},
            marker={
                "color": [cell.value for cell in cells],
                "colorscale": _SCALE,
                "cmin": centre - reach,
                "cmax": centre + reach,
                "line": {"width": 0.4, "color": "#D8D8D8"},
                "colorbar": {"title": {"text": f"projection<br>({_UNITS[seen.unit]})", "font": {"size": 11}}, "thickness": 12},
            },
            customdata=[[html.escape(repr(cell.token)), cell.value, cell.where] for cell in cells],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]:.4g}<br>%{customdata[2]}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, _COLUMNS], visible=False, fixedrange=True)
    figure.update_yaxes(
        range=[n_lines - 0.5, -0.5], tickvals=list(marks), ticktext=list(marks.values()), showgrid=False, zeroline=False,
        fixedrange=True, tickfont={"size": 11},
    )  # fmt: skip
    height, margin = 130 + max(4, n_lines) * _LINE, {"b": 20, "l": 80, "r": 10}
    title = f"{chat.name}: {seen.trait}, layer {layer}"
    return styled(figure, title, legend="none", height=height, bargap=0, margin=margin)


def _colours(seen: Projections, row: int) -> tuple[float, float]:
    """The value that is white, and how far from it colours reach."""
    values = np.array([value for chat in seen.chats for turn in chat.turns if turn.values for value in turn.values[row]])
    centre = float(np.median(values))
    return centre, float(np.percentile(np.abs(values - centre), 98)) or 1.0


@dataclass(frozen=True)
class _Cell:
    """A token in its place; `shown` is what of it fits into a line."""

    line: int
    column: int
    width: int
    token: str
    shown: str
    value: float
    where: str


def _laid_out(chat: ChatProjection, row: int) -> tuple[list[_Cell], dict[int, str]]:
    """Tokens in lines of `_COLUMNS` characters, prompt and answer each from a new line on, and what begins in which line."""
    if not any(turn.tokens for turn in chat.turns):
        raise InvalidInputError(f"{chat.name} was projected without its tokens: project with tokens=True")
    cells: list[_Cell] = []
    marks: dict[int, str] = {}
    line = 0
    for number, turn in enumerate(chat.turns, start=1):
        for name, tokens, values in _parts(turn, row):
            if not tokens:
                continue
            marks[line] = f"{name} {number}" if len(chat.turns) > 1 else name
            where = marks[line]
            column = 0
            for token, value in zip(tokens, values, strict=True):
                shown = token.replace("\n", "⏎").replace("\t", "⇥")[: _COLUMNS - 2]
                width = max(1, len(shown)) + 1
                if column and column + width > _COLUMNS:
                    line, column = line + 1, 0
                cells.append(_Cell(line, column, width, token, shown, value, where))
                column += width
                if token.endswith("\n"):
                    line, column = line + 1, 0
            if column:
                line += 1
    return cells, marks


def _parts(turn: TurnProjection, row: int) -> Sequence[tuple[str, tuple[str, ...], tuple[float, ...]]]:
    n = turn.n_prompt_tokens
    values = turn.values[row]
    return (("prompt", turn.tokens[:n], values[:n]), ("answer", turn.tokens[n:], values[n:]))


def _wrapped(text: str, width: int = 70, lines: int = 4) -> str:
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, width)[:lines])
