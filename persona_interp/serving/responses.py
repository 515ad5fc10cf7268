"""Answers in the form of OpenAI's API, whole and as the events of a stream."""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from persona_interp.serving.exchange import Choice
from persona_interp.serving.job import TokenChance

END = "data: [DONE]\n\n"
"""The end of every stream."""


def event(data: Mapping[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"


class Form(ABC):
    """How one route writes its answers.

    Args:
        model: as the request named it.
        spell: gives the text of a token.
    """

    kind: str
    prefix: str

    def __init__(self, model: str, spell: Callable[[int], str]) -> None:
        self._model, self._spell = model, spell
        self._id, self._created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())

    def whole(
        self, choices: Sequence[Choice], usage: Mapping[str, int], told: Mapping[str, Any], *, chances: bool
    ) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        listed = [
            self._choice(index, choice.text, choice.done.reason, choice.chances if chances else None)
            for index, choice in enumerate(choices)
        ]
        return {**self._head(self.kind), "choices": listed, "usage": dict(usage), **told}

    def piece(
        self, index: int, text: str, chances: Sequence[TokenChance] | None, reason: str | None, *, first: bool
    ) -> dict[str, Any]:
        """What is new of one choice."""
        return {**self._head(self.streamed_kind), "choices": [self._delta(index, text, chances, reason, first=first)]}

    def trailing(self, **told: Any) -> dict[str, Any]:
        """What is told behind all choices: usage, projections."""
        return {**self._head(self.streamed_kind), "choices": [], **told}

    @property
    def streamed_kind(self) -> str:
        """What the events of a stream are called."""
        return self.kind

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    @abstractmethod
    def _choice(self, index: int, text: str, reason: str, chances: Sequence[TokenChance] | None) -> dict[str, Any]: ...

    @abstractmethod
    def _delta(
        self, index: int, text: str, chances: Sequence[TokenChance] | None, reason: str | None, *, first: bool
    ) -> dict[str, Any]: ...


class ChatForm(Form):
    """Of ``/v1/chat/completions``."""

    kind = "chat.completion"
    prefix = "chatcmpl"

    @property
    def streamed_kind(self) -> str:
        """See `Form`."""
        return "chat.completion.chunk"

    def _choice(self, index: int, text: str, reason: str, chances: Sequence[TokenChance] | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": self._chances(chances), "finish_reason": reason}

    def _delta(
        self, index: int, text: str, chances: Sequence[TokenChance] | None, reason: str | None, *, first: bool
    ) -> dict[str, Any]:
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        return {"index": index, "delta": delta, "logprobs": self._chances(chances), "finish_reason": reason}

    def _chances(self, chances: Sequence[TokenChance] | None) -> dict[str, Any] | None:
        if chances is None:
            return None
        content = [
            {**self._named(each.token, each.log_prob), "top_logprobs": [self._named(token, log) for token, log in each.top]}
            for each in chances
        ]
        return {"content": content, "refusal": None}

    def _named(self, token: int, log_prob: float) -> dict[str, Any]:
        text = self._spell(token)
        return {"token": text, "logprob": _finite(log_prob), "bytes": list(text.encode())}


class TextForm(Form):
    """Of ``/v1/completions``."""

    kind = "text_completion"
    prefix = "cmpl"

    def _choice(self, index: int, text: str, reason: str, chances: Sequence[TokenChance] | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._chances(chances), "finish_reason": reason}

    def _delta(
        self, index: int, text: str, chances: Sequence[TokenChance] | None, reason: str | None, *, first: bool
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._chances(chances), "finish_reason": reason}

    def _chances(self, chances: Sequence[TokenChance] | None) -> dict[str, Any] | None:
        if chances is None:
            return None
        tokens = [self._spell(each.token) for each in chances]
        starts = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        top = [{self._spell(token): _finite(log) for token, log in each.top} for each in chances]
        return {
            "tokens": tokens,
            "token_logprobs": [_finite(each.log_prob) for each in chances],
            "top_logprobs": top if any(top) else None,
            "text_offset": starts,
        }


def _finite(log_prob: float) -> float:
    return max(log_prob, -9999.0)  # JSON has no word for minus infinity
