"""Reading a score off what a chat server replied: the expected number where it gives probabilities, else the number it wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from persona_interp.judges.logprob import expected_number
from persona_interp.models.chat_connection import ChatFailure

_REFUSAL = re.compile(r"^\W*REF(U|\W*$)|\brefus", re.IGNORECASE)
_THOUGHT = re.compile(r"^.*</think>|<think>.*$", re.DOTALL)
"""Up to the end of the last thought, also where the prompt opened it; and a thought without an end."""
_OUT_OF = re.compile(r"\s*(/|out of)\s*100\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,-])-?\d+(?:[.,]\d+)*(?!\w)")


Cut: TypeAlias = Literal["", "thought", "text"]
"""Where the limit of tokens cut a reply short, if it did so before there was a number to go by."""


@dataclass(frozen=True)
class Step:
    """One token of a reply.

    Attributes:
        token: its text.
        choices: text -> probability of the likeliest tokens at this place, the one written among them.
    """

    token: str
    choices: Mapping[str, float]


@dataclass(frozen=True)
class Reply:
    """What a server wrote.

    Attributes:
        text: all of it.
        steps: token by token; empty where the server gave no probabilities.
        complete: whether it ended by itself.
        alternatives: the most tokens that the server named at one place, besides the one written.
        thinking: whether it ended before there was any text, in a thought that the server gives apart.
        limit: tokens it was allowed.
    """

    text: str
    steps: tuple[Step, ...]
    complete: bool
    alternatives: int = 0
    thinking: bool = False
    limit: int = 0


@dataclass(frozen=True)
class Score:
    """A score of 0 to 100, or None, and whether the reply was a refusal or cut short; `text` is the reply, for messages."""

    value: float | None
    refused: bool
    text: str
    cut: Cut = ""


def reply_in(body: str) -> Reply:
    """The reply in what a server sent.

    Raises:
        ChatFailure: it is no chat completion; another attempt may bring one.
    """
    try:
        return read_reply(json.loads(body))
    except ValueError as error:  # JSONDecodeError is one
        raise ChatFailure(f"what came is no chat completion but {body[:80]!r} ({error})", 200, again=True) from error


def read_reply(body: Any) -> Reply:
    """The reply in the JSON body of a chat completion.

    Raises:
        ValueError: it is no chat completion; says what is missing.
    """
    if not isinstance(body, dict):
        raise ValueError(f"a JSON {type(body).__name__} instead of an object")
    if isinstance(body.get("error"), dict | str):
        raise ValueError(f"an error: {str(body['error'])[:200]}")
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError(f"content is a {type(text).__name__}")
        complete = choice.get("finish_reason") == "stop"
        apart = bool(message.get("reasoning_content") or message.get("reasoning"))
        steps = _steps(choice.get("logprobs"))
        named = max((len(step.choices) for step in steps), default=0)
        return Reply(text, steps, complete, named, thinking=apart and not text and not complete)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no choices[0].message ({type(error).__name__}: {error})") from error


def score_reply(reply: Reply, min_mass: float) -> Score:
    """The score of a reply; None for a refusal, and for a text without exactly one number from 0 to 100.

    Probabilities are read where the number begins, whatever stands before it: a thought, ``Score:``, asterisks, JSON. A
    text that names no number, or several, is read from its first word.
    """
    said = _said(reply.text)
    refused = bool(_REFUSAL.search(said))
    written = None if refused else _written(said)
    cut = "" if refused else _cut(reply, said, written)
    if not reply.steps:
        return Score(None if written is None else written.value, refused, reply.text, cut)
    start = written.start if written is not None else len(said) - len(said.lstrip())
    steps = _from(reply, start)
    if written is not None and not (steps and _is_digits(steps[0].token.strip())):
        return Score(written.value, refused, reply.text, cut)  # the number shares its token with something else
    numbers, mass = number_probabilities(steps)
    value = expected_number(numbers, min(min_mass, 1e-9)) if mass >= min_mass else None
    if value is not None and not (written is not None and cut):
        cut = ""  # read off the first word of a text that went on to other things
    return Score(value, refused, reply.text, cut)


def number_in(text: str) -> float | None:
    """The one number from 0 to 100 a text names, ``85/100`` and ``85 out of 100`` being 85; None where there is none or several.

    What a model thinks between ``<think>`` and ``</think>`` is not read.
    """
    written = _written(_said(text))
    return None if written is None else written.value


@dataclass(frozen=True)
class _Written:
    """The number a text names, and where it stands."""

    value: float
    start: int
    end: int


def _said(text: str) -> str:
    """The text with blanks in place of thoughts."""
    return _THOUGHT.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _written(said: str) -> _Written | None:
    found = list(_NUMBER.finditer(_OUT_OF.sub(_blank, said)))
    if len({match.group() for match in found}) != 1:
        return None
    try:
        value = float(found[0].group())
    except ValueError:  # 1,5 or 1.2.3
        return None
    return _Written(value, found[0].start(), found[0].end()) if 0 <= value <= 100 else None


def _cut(reply: Reply, said: str, written: _Written | None) -> Cut:
    if reply.complete:
        return ""
    if reply.thinking or ("<think>" in reply.text and not said.strip()):
        return "thought"
    return "text" if written is None or _at_end(said, written) else ""


def _at_end(said: str, written: _Written | None) -> bool:
    """Whether more digits might follow; not so of a number the reply opens with, for which there are tokens enough."""
    return written is not None and bool(said[: written.start].strip()) and not said[written.end :].strip()


def _from(reply: Reply, start: int) -> Sequence[Step]:
    """The steps from the character of the text on that is at `start`; none where text and tokens do not agree."""
    offset = "".join(step.token for step in reply.steps).rfind(reply.text)  # thoughts given apart may be among the tokens
    if offset < 0:
        return () if start else reply.steps
    reached = 0
    for place, step in enumerate(reply.steps):
        reached += len(step.token)
        if reached > offset + start:
            return reply.steps[place:]
    return ()


def number_probabilities(steps: Sequence[Step]) -> tuple[dict[int, float], float]:
    """Number -> probability over the whole numbers 0 to 100, and the probability that the reply opens with a number at all.

    Where numbers are single tokens these are the choices at the first place, as in the paper. Where digits come one by one, only
    the continuations of the digits written are known: the numbers are those that begin as the written one does. White space in
    front is passed over.
    """
    steps = _without_space(steps)
    if not steps:
        return {}, 0.0
    opening = _digits(steps[0].choices)
    mass = math.fsum(opening.values())
    if any(len(digits) > 1 for digits in opening):
        return _valid(opening), math.fsum(_valid(opening).values())
    found: dict[int, float] = {}
    written, reach = "", 1.0
    for step in steps:
        digits = _digits(step.choices)
        if written:
            ended = max(0.0, 1.0 - math.fsum(digits.values()))
            _add(found, written, reach * ended)
        chosen = step.token.strip()
        for each, probability in digits.items():
            if written and each != chosen:
                _add(found, written + each, reach * probability)
        if not _is_digits(chosen):
            return found, mass
        reach *= digits.get(chosen, 0.0)
        written += chosen
    _add(found, written, reach)
    return found, mass


def _steps(logprobs: Any) -> tuple[Step, ...]:
    """Empty for anything but the probabilities of chat completions: some servers give none, or another layout."""
    found: list[Step] = []
    try:
        for item in logprobs["content"]:
            choices = {str(item["token"]): math.exp(float(item["logprob"]))}
            for each in item.get("top_logprobs") or ():
                choices[str(each["token"])] = math.exp(float(each["logprob"]))
            if not all(math.isfinite(probability) for probability in choices.values()):
                return ()  # JSON of Python servers may hold NaN
            if len(choices) < 2 and choices[str(item["token"])] < 0.5:
                return ()  # the written token alone says nothing of the others
            found.append(Step(str(item["token"]), choices))
    except (KeyError, TypeError, ValueError, OverflowError):
        return ()
    return tuple(found)


def _without_space(steps: Sequence[Step]) -> Sequence[Step]:
    start = next((place for place, step in enumerate(steps) if step.token.strip()), len(steps))
    return steps[start:]


def _digits(choices: Mapping[str, float]) -> dict[str, float]:
    """Digits -> probability, for the tokens that are digits but for white space around them."""
    found: dict[str, float] = {}
    for token, probability in choices.items():
        if _is_digits(token.strip()):
            found[token.strip()] = found.get(token.strip(), 0.0) + probability
    return found


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _valid(digits: Mapping[str, float]) -> dict[int, float]:
    found: dict[int, float] = {}
    for each, probability in digits.items():
        _add(found, each, probability)
    return found


def _add(found: dict[int, float], digits: str, probability: float) -> None:
    """Count `digits` if they are a number of the scale; 007 and 850 are not."""
    if str(int(digits)) == digits and int(digits) <= 100:
        found[int(digits)] = found.get(int(digits), 0.0) + probability
