"""One question to a judge behind an OpenAI-compatible chat server, asked for as much as that server gives."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from persona_interp.judges.replies import Cut, Reply, reply_in
from persona_interp.models.chat_connection import ChatConnection, ChatFailure
from persona_interp.progress import say

_SHORT, _LONG, _THINKING = 5, 64, 1024
"""Tokens asked for: a number with its probabilities; a number somewhere in a text; one behind a thought."""
_ALTERNATIVES, _FEW = 20, 5
"""Likeliest tokens asked for at each place, and where a server gives no more than some: OpenAI's older limit, and vLLM's."""
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
        self._length, self._alternatives = _SHORT, _ALTERNATIVES
        self._said: set[str] = set()

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

    def lengthen(self, reply: Reply, cut: Cut) -> bool:
        """Allow more tokens from now on, because `reply` was cut short; False where it had all that may be asked for."""
        wanted = _THINKING if cut == "thought" else _LONG
        self._length = max(self._length, wanted)
        return reply.limit < wanted

    def say_once(self, what: str) -> None:
        """Tell the user something about this server, once."""
        if what not in self._said:
            self._said.add(what)
            say(f"the judge at {self.url}, model {self.model!r}, {what}")

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
            limit = asked.get("max_tokens") or asked.get("max_completion_tokens") or _THINKING
            reply = replace(reply, limit=limit)
            if reply.steps and reply.alternatives < asked.get("top_logprobs", 0):
                self.say_once(
                    f"names {reply.alternatives} likeliest tokens instead of the {asked['top_logprobs']} asked for: scores are "
                    "expected over those alone"
                )
            if reply.steps or not asked.get("logprobs"):
                return reply
            self._without_probabilities()  # taken without a word, and not given
            if reply.complete:
                return reply

    def _options(self) -> dict[str, Any]:
        length = self._length if self.gives_probabilities else max(_LONG, self._length)
        wanted = {"logprobs": True, "top_logprobs": self._alternatives, "temperature": 0.0, "max_tokens": length}
        wanted = {name: value for name, value in wanted.items() if name not in self._refused}
        if self._renamed:
            wanted["max_completion_tokens"] = _THINKING  # models that must be asked like this think before they write
        return wanted

    def _without(self, words: str, asked: dict[str, Any]) -> bool:
        """Give up the option an error message is about; False where it is about none."""
        for name in _OPTIONAL:
            if name in asked and name in words:
                if name == "top_logprobs" and asked[name] > _FEW:
                    self._alternatives = _FEW
                    self.say_once(
                        f"takes no {asked[name]} likeliest tokens: {_FEW} are asked for, and scores expected over those"
                    )
                    return True
                self._renamed = self._renamed or "max_completion_tokens" in words
                self._refused.add("max_tokens" if "max_completion_tokens" in words else name)
                if "logprobs" in name:
                    self._without_probabilities()
                return True
        return False

    def _without_probabilities(self) -> None:
        self._refused.update(("logprobs", "top_logprobs"))
        self.say_once("gives no probabilities: scores are the single numbers it writes, not expected ones")
