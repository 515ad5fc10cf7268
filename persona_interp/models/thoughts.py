"""Trains of thought: how a chat template opens one, and what closes it so that the answer follows.

Models that reason write between tags (``<think>`` and ``</think>``), and some templates put the first of them into the generation
prompt. What is generated behind it is the thought, so it is closed before anything is.
"""

from __future__ import annotations

import re

_TAG = r"(?:\w+:)?(?:think|thinking|thought|thoughts|reason|reasoning)"
_OPENED = re.compile(
    rf"(?:<(?P<tag>{_TAG})>"
    r"|\[(?P<bracket>THINK|THINKING)\]"
    r"|<\|(?P<begin>begin_of_thought|START_THINKING)\|>"
    r"|(?P<channel><\|channel>thought))(?P<gap>\s*)"
)
_ENDS = {"begin_of_thought": "<|end_of_thought|>", "START_THINKING": "<|END_THINKING|>"}
_CLOSED = re.compile(rf"(?:</{_TAG}>|\[/THINK(?:ING)?\]|<\|(?:end_of_thought|END_THINKING)\|>)\s*")
_UNKNOWN = re.compile(r"[<\[](?![/|]*end)[^<>\[\]/]*(?:think|thought|reason)[^<>\[\]]*[>\]]\s*\Z", re.IGNORECASE)


def closing(prompt: str) -> str:
    """What closes the thought that `prompt` ends in, as an empty one would be; empty where none is open."""
    found = _at_end(prompt)
    if found is None:
        return ""
    if found["tag"]:
        # an empty thought as these models are trained on it: a blank line within, a blank line behind
        return "\n" * max(1, 2 - len(found["gap"])) + f"</{found['tag']}>\n\n"
    if found["bracket"]:
        return f"[/{found['bracket']}]"
    return "<channel|>" if found["channel"] else _ENDS[found["begin"]]


def opens_unknown(prompt: str) -> str:
    """The tag that `prompt` ends in, where it reads like the beginning of a thought but `closing` does not know its end."""
    found = None if _at_end(prompt) else _UNKNOWN.search(prompt)
    return found.group().strip() if found else ""


def begins_with_thought(answer: str) -> bool:
    """Whether an answer begins with a thought of its own."""
    return _OPENED.match(answer.lstrip()) is not None


def behind_thought(reply: str) -> str:
    """A reply without the thought before it, which may lack its first tag: servers that open it themselves send the rest alone.

    A thought that never ends is all of the reply, and stays.
    """
    found = _CLOSED.search(reply)
    if found is None or (_OPENED.search(reply, 0, found.start()) and not begins_with_thought(reply)):
        return reply
    return reply[found.end() :]


def _at_end(prompt: str) -> re.Match[str] | None:
    return next((match for match in _OPENED.finditer(prompt) if match.end() == len(prompt)), None)
