"""The line to an OpenAI-compatible chat server: asked again where that may help, and refused in words where it does not."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from persona_interp.errors import InvalidInputError, PersonaInterpError, missing_extra
from persona_interp.progress import say

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none-needed"
"""What is sent in place of a key to a server that asks for none; the client library insists on one."""
_BACK_OFF, _LONGEST = 0.5, 30.0
_AGAIN = (408, 409, 425, 429)
_T = TypeVar("_T")

_REMEDIES = {
    400: "The server does not take this request: check that it is a chat model",
    401: "Set OPENAI_API_KEY to a key that this server knows",
    402: "The account has no credit left",
    403: "The key may not use this model: check OPENAI_API_KEY and the model's name",
    404: "Check the model's name, and that OPENAI_BASE_URL ends where the server's API begins, usually in /v1",
    413: "The text is too long for this server: shorten it, for example with --max-new-tokens",
    429: "Wait, ask for a higher limit, or lower the concurrency",
}


@dataclass(eq=False)
class ChatFailure(Exception):  # noqa: N818  (callers never see it: `ChatConnection.patiently` turns it into their error)
    """One attempt that failed: in which words, with which status, and whether and when another may help."""

    words: str
    status: int | None
    again: bool
    wait: float | None = None


class ChatConnection:
    """A chat model behind an OpenAI-compatible server.

    Args:
        model: the name the server knows it by.
        base_url: ``OPENAI_BASE_URL`` if None, else OpenAI's own.
        api_key: ``OPENAI_API_KEY`` if None. Without any, a placeholder goes to every server but OpenAI's own.
        timeout: seconds one reply may take.
        attempts: how often one question is asked before it counts as failed.
        patience: longest wait, in seconds, that a server may ask for in ``Retry-After``.
        called: what errors call it.
        feature: what needs it, for the error where the client library is not installed.
        afterwards: what errors say at the end.

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
        called: str = "the server",
        feature: str = "a chat server",
        afterwards: str = "",
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
        self._called, self._feature, self._afterwards = called, feature, afterwards
        self._client = self._connect(api_key or os.environ.get("OPENAI_API_KEY"))

    def patiently(self, attempt: Callable[[], _T], stop: threading.Event | None = None) -> _T:
        """What `attempt` returns, made again where it raises a `ChatFailure` that may pass.

        Args:
            attempt: one try.
            stop: once set, nothing is waited for any more.

        Raises:
            PersonaInterpError: no attempt succeeded; names the server, the model, the status and what to do.
        """
        stop = stop or threading.Event()
        started = time.monotonic()
        for number in range(1, self.attempts + 1):
            try:
                return attempt()
            except ChatFailure as failure:
                wait = failure.wait if failure.wait is not None else _back_off(number)
                last = number == self.attempts or not failure.again or wait > self.patience
                if last or stop.wait(wait):
                    raise self._error(failure, number, time.monotonic() - started) from failure.__cause__
        raise self._error(ChatFailure("no reply", None, False), self.attempts, 0.0)

    def send(
        self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any], more: Mapping[str, Any] | None = None
    ) -> str:
        """The body of the response to one request.

        Args:
            messages: role and content of each.
            options: fields the protocol knows.
            more: fields it does not know, which some servers take.

        Raises:
            ChatFailure: there is none, or its status says it is an error.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        said: Any = [dict(message) for message in messages]
        try:
            create = self._client.chat.completions.with_raw_response.create
            return create(model=self.model, messages=said, extra_body=dict(more or {}) or None, **options).http_response.text
        except APITimeoutError as error:
            raise ChatFailure(f"no reply within {self.timeout:g} s", None, again=True) from error
        except APIConnectionError as error:
            raise ChatFailure(f"no connection ({error.__cause__ or error})", None, again=True) from error
        except APIStatusError as error:
            status, words = error.status_code, " ".join(str(error.response.text).split())[:300]
            spent = "insufficient_quota" in words
            again = (status in _AGAIN or status >= 500) and not spent
            raise ChatFailure(words, status, again, _retry_after(error.response.headers)) from error

    def served(self) -> list[str]:
        """Names of the models the server has.

        Raises:
            PersonaInterpError: it does not say, or cannot be reached.
        """
        from openai import APIConnectionError, OpenAIError

        def attempt() -> list[str]:
            try:
                return [str(model.id) for model in self._client.models.list().data]
            except APIConnectionError as error:  # a timeout is one
                raise ChatFailure(f"no connection ({error.__cause__ or error})", None, again=True) from error
            except (OpenAIError, AttributeError, TypeError, ValueError) as error:
                status = getattr(error, "status_code", 200)
                raise ChatFailure(f"it names no models ({str(error)[:200]})", status, again=False) from error

        return self.patiently(attempt)

    def _connect(self, key: str | None) -> Any:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise missing_extra(self._feature, "endpoint") from error
        if not key and self.url == OPENAI_URL:
            raise InvalidInputError(
                f"there is no key for {OPENAI_URL}: set OPENAI_API_KEY, or OPENAI_BASE_URL to another server, for example "
                "http://localhost:8000/v1"
            )
        if not key:
            say(f"OPENAI_API_KEY is not set: a placeholder goes to {self.url}, which is all a server of one's own needs")
        return OpenAI(base_url=self.url, api_key=key or NO_KEY, timeout=self.timeout, max_retries=0)

    def _error(self, failure: ChatFailure, attempts: int, seconds: float) -> PersonaInterpError:
        status = "no status" if failure.status is None else f"status {failure.status}"
        tried = "1 attempt" if attempts == 1 else f"{attempts} attempts in {seconds:.0f} s"
        asks = f" It asks to wait {failure.wait:.0f} s." if failure.wait is not None else ""
        end = f". {self._afterwards}" if self._afterwards else ""
        return PersonaInterpError(
            f"{self._called} at {self.url}, model {self.model!r}, failed ({status}, {tried}): {failure.words}.{asks} "
            f"{_remedy(failure)}{end}"
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


def _remedy(failure: ChatFailure) -> str:
    if failure.status in _REMEDIES:
        return _REMEDIES[failure.status]
    if failure.status is None:
        return (
            "Is the server running, and is OPENAI_BASE_URL its address? If it is slow, lower the concurrency or raise the timeout"
        )
    if failure.status == 200:
        return "Check that OPENAI_BASE_URL ends where the server's API begins, usually in /v1"
    return "The server has trouble of its own: look at its log, or try later"
