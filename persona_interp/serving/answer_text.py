"""The text of an answer while its tokens come: what may be shown already, and where it stops."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.models.chat import ChatFormat

_HALF = "\ufffd"
"""What a decoder writes for a character whose bytes are not all there."""


class AnswerText:
    """Follows one answer.

    What may yet turn out to begin a stop string, half a character, or the next turn of a base model is held back until known.

    Args:
        chat: knows the ids that end an answer, and what ids spell.
        stops: texts before which it ends.
        most: tokens it may have.
        streamed: False: its text is wanted at the end only, and worked out then where nothing depends on it before.

    Attributes:
        reason: why it ended, ``stop`` or ``length``; None: it has not.
        ids: its tokens, the one that ended it left out.
        text: all of it that was given out.
    """

    def __init__(self, chat: ChatFormat, stops: Sequence[str], most: int, *, streamed: bool = True) -> None:
        self._chat, self._stops, self._most = chat, [stop for stop in stops if stop], most
        self._looks = streamed or bool(self._stops) or chat.plain
        self.ids: list[int] = []
        self.text = ""
        self.reason: str | None = None

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end it."""
        return self._chat.end_ids

    def take(self, token: int) -> str:
        """One more token; the text that may be given out with it."""
        if token in self._chat.end_ids:
            self.reason = "stop"
        else:
            self.ids.append(token)
            if self._chat.completes_turn(self.ids):
                self.reason = "stop"
            elif len(self.ids) >= self._most:
                self.reason = "length"
        if self.reason is None and not self._looks:
            return ""
        said = self._chat.spoken(self.ids, whole=self.reason is not None)
        places = [place for place in (said.find(stop) for stop in self._stops) if place >= 0]
        if places:
            said, self.reason = said[: min(places)], "stop"
        elif self.reason is None:
            said = self._settled(said)
        if self.reason is None and (not said.strip() or not said.startswith(self.text)):
            return ""
        new, self.text = said[len(self.text) :], said
        return new

    def _settled(self, said: str) -> str:
        """`said` up to what more tokens may change."""
        said = said.rstrip(_HALF)
        held = 0
        for stop in self._stops:
            lengths = range(min(len(stop) - 1, len(said)), 0, -1)
            held = max(held, next((length for length in lengths if said.endswith(stop[:length])), 0))
        return said[: len(said) - held]
