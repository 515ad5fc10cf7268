"""One question to a judge behind an OpenAI-compatible chat server, asked for as much as that server gives."""

from __future__ import annotations

import threading
from typing import Any

from persona_interp.judges.replies import Reply, reply_in
from persona_interp.models.chat_connection import ChatConnection, ChatFailure

_SHORT, _LONG = 5, 64
"""Tokens asked for: a number with its probabilities; a number somewhere in a text."""
_OPTIONAL = ("top_logprobs", "logprobs", "temperature", "max_tokens")


class ChatEndpoint(ChatConnection):
    """A `ChatConnection` to a judge; its arguments and errors are those."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        attempts: int = 6,
        patience: float = 120.0,
    ) -> None:
        super().__init__(
            model,
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            attempts=attempts,
            patience=patience,
            called="the judge",
            feature="the endpoint judge",
            afterwards="Scores that came before are kept; the same again goes on from there",
        )
        self._refused: set[str] = set()
        self._renamed = False

    @property
    def gives_probabilities(self) -> bool:
        """Whether, for all that is known, the server gives the probabilities of tokens."""
        return "logprobs" not in self._refused

    def ask(self, prompt: str, stop: threading.Event | None = None) -> Reply:
        """The reply to one user turn, at temperature 0, with the 20 likeliest tokens at each place where the server gives them.

        Args:
            prompt: what the user says.
            stop: once set, nothing is waited for any more.

        Raises:
            PersonaInterpError: no usable reply came; names the server, the model, the status and what to do.
        """
        return self.patiently(lambda: self._reply(prompt), stop)

    def _reply(self, prompt: str) -> Reply:
        """One attempt. What the server refuses to know is left out, and asked for no more."""
        while True:
            asked = self._options()
            try:
                reply = reply_in(self.send([{"role": "user", "content": prompt}], asked))
            except ChatFailure as failure:
                if failure.status in (400, 422, 501) and self._without(failure.words, asked):
                    continue
                raise
            if reply.steps or not asked.get("logprobs"):
                return reply
            self._refused.update(("logprobs", "top_logprobs"))  # taken without a word, and not given
            if reply.complete:
                return reply

    def _options(self) -> dict[str, Any]:
        length = _SHORT if self.gives_probabilities else _LONG
        wanted = {"logprobs": True, "top_logprobs": 20, "temperature": 0.0, "max_tokens": length}
        wanted = {name: value for name, value in wanted.items() if name not in self._refused}
        if self._renamed:
            wanted["max_completion_tokens"] = 16 * _LONG  # models that must be asked like this think before they write
        return wanted

    def _without(self, words: str, asked: dict[str, Any]) -> bool:
        """Give up the option an error message is about; False where it is about none."""
        for name in _OPTIONAL:
            if name in asked and name in words:
                self._renamed = self._renamed or "max_completion_tokens" in words
                self._refused.add("max_tokens" if "max_completion_tokens" in words else name)
                if "logprobs" in name:
                    self._refused.update(("logprobs", "top_logprobs"))
                return True
        return False
