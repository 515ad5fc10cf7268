"""What answers say while they are still being written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import Capture
from persona_interp.models.chat import ChatFormat

OnText: TypeAlias = Callable[[int, str], None]
"""Called with a row and the text of its answer so far. What it raises ends the generation and reaches the caller."""
OnCaptured: TypeAlias = Callable[[int, Mapping[Capture, Tensor]], None]
"""Called likewise, with what the captures have read of the row so far: all but the newest token, which has not passed yet."""


class AnswerStream:
    """Follows a batch while it is generated: counts its steps, and tells what each row says until it has ended.

    Args:
        rows: what the caller calls the rows of the batch.
        chat: knows the ids that end an answer, and what ids spell.
        advance: told how many tokens each step drew.
        on_text: told the text of a row after each of its tokens, also when a token adds nothing to be seen; None: nobody listens.
        on_captured: told then what was read of the row, before `on_text` is told.
        readouts: of the batch.
    """

    def __init__(
        self,
        rows: Sequence[int],
        chat: ChatFormat,
        advance: Callable[[int], None],
        on_text: OnText | None,
        on_captured: OnCaptured | None,
        readouts: Readouts,
    ) -> None:
        self._rows, self._chat, self._advance, self._on_text = rows, chat, advance, on_text
        self._on_captured, self._readouts = on_captured, readouts
        self._answers: list[list[int]] = [[] for _ in rows]
        self._ended = [False] * len(rows)

    def step(self, places: Sequence[int], scores: Float[Tensor, "batch vocab"]) -> None:
        """Take the tokens that one step chose, the largest score of each row, for these rows of the batch."""
        self._advance(len(places))
        if self._on_text is None and self._on_captured is None:
            return
        for place, token in zip(places, scores.argmax(dim=-1).tolist(), strict=True):
            if self._ended[place]:
                continue
            self._ended[place] = token in self._chat.end_ids
            if not self._ended[place]:
                self._answers[place].append(token)
                if self._on_captured is not None:
                    self._on_captured(self._rows[place], self._readouts.result(place))
                if self._on_text is not None:
                    self._on_text(self._rows[place], self._chat.decode(self._answers[place]))
