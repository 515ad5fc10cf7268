"""A conversation laid out in lines of tokens, and the colours its projections get."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from persona_interp.errors import InvalidInputError
from persona_interp.monitoring.projection import ChatProjection, Projections, TurnProjection

UNITS = {"activation": "activation units", "vector_length": "vector lengths"}
COLUMNS = 96
"""Characters in a line."""


@dataclass(frozen=True)
class Cell:
    """A token in its place.

    Attributes:
        line: counted from the top.
        column: where it begins.
        width: in columns.
        token: as the tokenizer has it.
        shown: what of it fits into a line.
        values: its projection at each layer of the `Projections`.
        where: what it is part of, such as ``answer 2``.
    """

    line: int
    column: int
    width: int
    token: str
    shown: str
    values: tuple[float, ...]
    where: str

    @property
    def text(self) -> str:
        """`shown`, never read as HTML, with its spaces."""
        return html.escape(self.shown).replace(" ", "\u00a0")

    def hover(self, layer: int, row: int) -> str:
        """Token, layer and projection."""
        return f"{html.escape(repr(self.token))}<br>layer {layer}: {self.values[row]:.4g}<br>{self.where}"


def laid_out(chat: ChatProjection) -> tuple[list[Cell], dict[int, str]]:
    """Tokens in lines of `COLUMNS` characters, prompt and answer each from a new line on, and what begins in which line.

    Raises:
        InvalidInputError: the conversation was projected without its tokens.
    """
    if not any(turn.tokens for turn in chat.turns):
        raise InvalidInputError(f"{chat.name} was projected without its tokens: project with tokens=True")
    cells: list[Cell] = []
    marks: dict[int, str] = {}
    line = 0
    for number, turn in enumerate(chat.turns, start=1):
        for name, tokens in _parts(turn):
            if not tokens:
                continue
            where = marks[line] = f"{name} {number}" if len(chat.turns) > 1 else name
            column = 0
            for token, values in tokens:
                shown = token.replace("\n", "⏎").replace("\t", "⇥")[: COLUMNS - 2]
                width = max(1, len(shown)) + 1
                if column and column + width > COLUMNS:
                    line, column = line + 1, 0
                cells.append(Cell(line, column, width, token, shown, values, where))
                column += width
                if token.endswith("\n"):
                    line, column = line + 1, 0
            if column:
                line += 1
    return cells, marks


def _parts(turn: TurnProjection) -> Iterator[tuple[str, Sequence[tuple[str, tuple[float, ...]]]]]:
    """What is prompt and what is answer, each token with its values at every layer."""
    seen = list(zip(turn.tokens, zip(*turn.values, strict=True), strict=True)) if turn.tokens else []
    yield "prompt", seen[: turn.n_prompt_tokens]
    yield "answer", seen[turn.n_prompt_tokens :]


def colour_range(seen: Projections, row: int) -> tuple[float, float]:
    """The value that is white, and how far from it colours reach, for all conversations of `seen` at one of its layers.

    The median over all their tokens, and the 98th percentile of the distances from it, so that one odd token (a first token is
    often one) does not bleach the others.
    """
    values = np.array([value for chat in seen.chats for turn in chat.turns if turn.values for value in turn.values[row]])
    centre = float(np.median(values))
    return centre, float(np.percentile(np.abs(values - centre), 98)) or 1.0
