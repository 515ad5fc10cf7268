"""What answers say while they are still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from persona_interp.models.chat import ChatFormat

OnText: TypeAlias = Callable[[int, str], None]
"""Called with a row and the text of its answer so far. What it raises ends the generation and reaches the caller."""


class AnswerStream:
    """Follows a batch while it is generated: counts its steps, and tells what each row says until it has ended.

    Args:
        rows: what the caller calls the rows of the batch.
        chat: knows the ids that end an answer, and what ids spell.
        advance: told how many tokens each step drew.
        on_text: told the text of a row after each of its tokens, also when a token adds nothing to be seen; None: nobody listens.
    """

    def __init__(self, rows: Sequence[int], chat: ChatFormat, advance: Callable[[int], None], on_text: OnText | None) -> None:
        self._rows, self._chat, self._advance, self._on_text = rows, chat, advance, on_text
        self._answers: list[list[int]] = [[] for _ in rows]
        self._ended = [False] * len(rows)

    def step(self, places: Sequence[int], scores: Float[Tensor, "batch vocab"]) -> None:
        """Take the tokens that one step chose, the largest score of each row, for these rows of the batch."""
        self._advance(len(places))
        if self._on_text is None:
            return
        for place, token in zip(places, scores.argmax(dim=-1).tolist(), strict=True):
            if self._ended[place]:
                continue
            self._ended[place] = token in self._chat.end_ids
            if not self._ended[place]:
                self._answers[place].append(token)
                self._on_text(self._rows[place], self._chat.decode(self._answers[place]))
