"""What answers say while they are still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from persona_interp.interventions.compile.readout import Captured
from persona_interp.models.chat import ChatFormat
from persona_interp.models.engines.protocol import Step

OnText: TypeAlias = Callable[[int, str], None]
"""Called with a row and the text of its answer so far. What it raises ends the generation and reaches the caller.

What may yet turn out to begin the next turn (a base model's ``User:`` line) is held back until it is known."""
OnCaptured: TypeAlias = Callable[[int, Captured], None]
"""Called likewise, with what the captures have read of the row so far: all but the newest token, which has not passed yet."""


class AnswerStream:
    """Follows a batch while it is generated: counts its steps, and tells what each row says until it has ended.

    Args:
        rows: what the caller calls the rows of the batch.
        chat: knows the ids that end an answer, and what ids spell.
        advance: told how many tokens each step drew.
        on_text: told the text of a row after each of its tokens, also when a token adds nothing to be seen; None: nobody listens.
        on_captured: told then what was read of the row, before `on_text` is told.
        most: tokens an answer may have.
    """

    def __init__(
        self,
        rows: Sequence[int],
        chat: ChatFormat,
        advance: Callable[[int], None],
        on_text: OnText | None,
        on_captured: OnCaptured | None,
        most: int,
    ) -> None:
        self._rows, self._chat, self._advance, self._on_text = rows, chat, advance, on_text
        self._on_captured, self._most = on_captured, most
        self._answers: list[list[int]] = [[] for _ in rows]
        self._told = [""] * len(rows)
        self._ended = [False] * len(rows)

    def step(self, step: Step) -> list[bool]:
        """Take the tokens that one step drew.

        Returns:
            For each of its rows whether the answer is over though no end id says so.
        """
        self._advance(len(step.rows))
        if self._on_text is None and self._on_captured is None and not self._chat.plain:
            return []
        for place, token in zip(step.rows, step.tokens, strict=True):
            if not self._ended[place]:
                self._take(place, token, step.captured)
        return [self._ended[place] for place in step.rows]

    def _take(self, place: int, token: int, captured: Callable[[int], Captured]) -> None:
        if token in self._chat.end_ids:
            self._ended[place] = True
            self._tell(place, self._answers[place], again=False)
            return
        self._answers[place].append(token)
        answer = self._answers[place]
        if self._chat.completes_turn(answer):
            self._ended[place] = True
            self._tell(place, answer, again=False)
            return
        at_limit = len(answer) == self._most
        held_back = self._chat.plain and not at_limit and self._chat.spoken(answer, whole=False) != self._chat.spoken(answer)
        if self._on_captured is not None and not held_back:
            self._on_captured(self._rows[place], captured(place))
        self._tell(place, answer, whole=at_limit)

    def _tell(self, place: int, answer: Sequence[int], *, whole: bool = True, again: bool = True) -> None:
        """Tell the text so far; with `again` also where nothing is new."""
        if self._on_text is None:
            return
        text = self._chat.spoken(answer, whole=whole)
        if again or text != self._told[place]:
            self._told[place] = text
            self._on_text(self._rows[place], text)
