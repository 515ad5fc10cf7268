"""One question to an OpenAI-compatible chat server: asked again where that may help, and refused in words where it does not."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from persona_interp.errors import InvalidInputError, PersonaInterpError, missing_extra
from persona_interp.judges.replies import Reply, read_reply
from persona_interp.progress import say

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none-needed"
"""What is sent in place of a key to a server that asks for none; the client library insists on one."""
_BACK_OFF, _LONGEST = 0.5, 30.0
_AGAIN = (408, 409, 425, 429)
_SHORT, _LONG = 5, 64
"""Tokens asked for: a number with its probabilities; a number somewhere in a text."""
_OPTIONAL = ("top_logprobs", "logprobs", "temperature", "max_tokens")

_REMEDIES = {
    400: "The server does not take this request: check that it is a chat model",
    401: "Set OPENAI_API_KEY to a key that this server knows",
    402: "The account has no credit left",
    403: "The key may not use this model: check OPENAI_API_KEY and the model's name",
    404: "Check the model's name, and that OPENAI_BASE_URL ends where the server's API begins, usually in /v1",
    413: "The rubric with its answer is too long for this server: shorten the answers with --max-new-tokens",
    429: "Wait, ask for a higher limit, or lower the concurrency",
}


@dataclass(eq=False)
class _Failure(Exception):  # noqa: N818  (it never leaves this file)
    """One attempt that failed: in which words, with which status, and whether and when another may help."""

    words: str
    status: int | None
    again: bool
    wait: float | None = None


class ChatEndpoint:
    """A chat model behind an OpenAI-compatible server.

    Args:
        model: the name the server knows it by.
        base_url: ``OPENAI_BASE_URL`` if None, else OpenAI's own.
        api_key: ``OPENAI_API_KEY`` if None. Without any, a placeholder goes to every server but OpenAI's own.
        timeout: seconds one reply may take.
        attempts: how often one question is asked before it counts as failed.
        patience: longest wait, in seconds, that a server may ask for in ``Retry-After``.

    Raises:
        MissingExtraError: the openai package is not installed.
        InvalidInputError: no key for OpenAI's own server, no URL, or a number out of range.
    """

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
        if attempts < 1 or not timeout > 0 or not patience >= 0:
            raise InvalidInputError(
                f"attempts is {attempts}, timeout {timeout:g}, patience {patience:g}: give at least 1, more than 0, at least 0"
            )
        self.model = model
        self.url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInputError(f"the server's address {self.url!r} must begin with http:// or https://: see OPENAI_BASE_URL")
        self.timeout, self.attempts, self.patience = timeout, attempts, patience
        self._refused: set[str] = set()
        self._renamed = False
        self._client = self._connect(api_key or os.environ.get("OPENAI_API_KEY"))

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
        stop = stop or threading.Event()
        started = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            try:
                return self._reply(prompt)
            except _Failure as failure:
                wait = failure.wait if failure.wait is not None else _back_off(attempt)
                last = attempt == self.attempts or not failure.again or wait > self.patience
                if last or stop.wait(wait):
                    raise self._error(failure, attempt, time.monotonic() - started) from failure.__cause__
        raise self._error(_Failure("no reply", None, False), self.attempts, 0.0)

    def _connect(self, key: str | None) -> Any:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise missing_extra("the endpoint judge", "endpoint") from error
        if not key and self.url == OPENAI_URL:
            raise InvalidInputError(
                f"there is no key for {OPENAI_URL}: set OPENAI_API_KEY, or OPENAI_BASE_URL to another server, for example "
                "http://localhost:8000/v1"
            )
        if not key:
            say(f"OPENAI_API_KEY is not set: a placeholder goes to {self.url}, which is all a server of one's own needs")
        return OpenAI(base_url=self.url, api_key=key or NO_KEY, timeout=self.timeout, max_retries=0)

    def _reply(self, prompt: str) -> Reply:
        """One attempt. What the server refuses to know is left out, and asked for no more."""
        while True:
            asked = self._options()
            try:
                reply = self._read(self._send(prompt, asked))
            except _Failure as failure:
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

    def _send(self, prompt: str, options: dict[str, Any]) -> str:
        """The body of the response.

        Raises:
            _Failure: there is none, or its status says it is an error.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        messages: Any = [{"role": "user", "content": prompt}]
        try:
            create = self._client.chat.completions.with_raw_response.create
            return create(model=self.model, messages=messages, **options).http_response.text
        except APITimeoutError as error:
            raise _Failure(f"no reply within {self.timeout:g} s", None, again=True) from error
        except APIConnectionError as error:
            raise _Failure(f"no connection ({error.__cause__ or error})", None, again=True) from error
        except APIStatusError as error:
            status, words = error.status_code, " ".join(str(error.response.text).split())[:300]
            spent = "insufficient_quota" in words
            again = (status in _AGAIN or status >= 500) and not spent
            raise _Failure(words, status, again, _retry_after(error.response.headers)) from error

    def _read(self, body: str) -> Reply:
        try:
            return read_reply(json.loads(body))
        except ValueError as error:  # JSONDecodeError is one
            words = f"what came is no chat completion but {body[:80]!r} ({error})"
            raise _Failure(words, 200, again=True) from error

    def _error(self, failure: _Failure, attempts: int, seconds: float) -> PersonaInterpError:
        status = "no status" if failure.status is None else f"status {failure.status}"
        tried = "1 attempt" if attempts == 1 else f"{attempts} attempts in {seconds:.0f} s"
        asks = f" It asks to wait {failure.wait:.0f} s." if failure.wait is not None else ""
        return PersonaInterpError(
            f"the judge at {self.url}, model {self.model!r}, failed ({status}, {tried}): {failure.words}.{asks} "
            f"{_remedy(failure)}. Scores that came before are kept; the same again goes on from there"
        )


def _back_off(attempt: int) -> float:
    """Seconds before the attempt after this one: half a second doubled each time, and up to a quarter less by chance."""
    return min(_LONGEST, _BACK_OFF * 2 ** (attempt - 1)) * (1 - 0.25 * random.random())


def _retry_after(headers: Any) -> float | None:
    """Seconds a server asks to wait: a number, or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _remedy(failure: _Failure) -> str:
    if failure.status in _REMEDIES:
        return _REMEDIES[failure.status]
    if failure.status is None:
        return (
            "Is the server running, and is OPENAI_BASE_URL its address? If it is slow, lower the concurrency or raise the timeout"
        )
    if failure.status == 200:
        return "Check that OPENAI_BASE_URL ends where the server's API begins, usually in /v1"
    return "The server has trouble of its own: look at its log, or try later"
