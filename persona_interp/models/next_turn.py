"""Where an answer ends that no token ends: a base model goes on with the conversation, and begins the next turn by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SPEAKERS = ("User", "Assistant")
"""Who begins a line of the plain layout, each followed by a colon."""
_SEAM = re.compile(rf"\n(?:{'|'.join(SPEAKERS)}):")
_LAST_LINE = re.compile(r"\n(\w*)\Z")


def next_turn(text: str) -> int | None:
    """The length of `text` up to the next turn, white space before it left out; None where it has none."""
    found = _SEAM.search(text)
    return None if found is None else len(text[: found.start()].rstrip())


def settled(text: str) -> int:
    """The length of `text` that belongs to the answer whatever follows: its end may yet become the next turn."""
    found = _LAST_LINE.search(text)
    if found and any(speaker.startswith(found.group(1)) for speaker in SPEAKERS):
        return len(text[: found.start()].rstrip())
    return len(text.rstrip())


def first_id_behind(ids: Sequence[int], length: int, decode: Callable[[Sequence[int]], str]) -> int:
    """The place of the first of `ids` all of whose characters lie behind the first `length` ones of the text they spell."""
    if not length:
        return 0
    for place in range(1, len(ids)):
        text = decode(ids[:place]).rstrip("\ufffd")
        if len(text) >= length and text.strip():  # a space that begins an answer is counted only while it stands alone
            return place
    return len(ids)
