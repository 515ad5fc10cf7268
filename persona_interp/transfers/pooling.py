"""Rows of a text that do not depend on a tokenizer: one for each word, one for each sentence."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from persona_interp.models.chat import ChatFormat

_SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|\n|$)", re.DOTALL)


def word_ends(text: str) -> list[int]:
    """The character behind each word's last one; words are what white space parts."""
    return [match.end() for match in re.finditer(r"\S+", text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """First character and the one behind the last of each sentence; a line break ends one too."""
    return [match.span() for match in _SENTENCE.finditer(text)]


def token_ends(chat: ChatFormat, answer_ids: Sequence[int], text: str) -> list[int]:
    """For each id of an answer the characters of `text` that are complete with it, never going back.

    A token in the middle of a character completes nothing; ids of the template count as the place they stand at.
    """
    whole = chat.decode(answer_ids)
    offset = max(0, whole.find(text))
    ends: list[int] = []
    for place in range(1, len(answer_ids) + 1):
        so_far = chat.decode(answer_ids[:place]).rstrip("�")
        ends.append(max(len(so_far) - offset, ends[-1] if ends else 0))
    return ends


def covering(ends: Sequence[int], character: int) -> int:
    """The first token with which the text is complete up to `character`; the last one if none is."""
    return min(bisect_left(ends, character), len(ends) - 1)


def token_rows(kind: str, text: str, ends: Sequence[int]) -> list[range]:
    """The tokens each row of a text is the mean of: its words' last tokens, or all of a sentence's.

    The number of rows depends on the text alone, so that two models' rows pair up whatever their tokenizers.
    """
    if kind == "words":
        return [range(place, place + 1) for place in (covering(ends, end) for end in word_ends(text))]
    found: list[range] = []
    for start, end in sentence_spans(text):
        first, last = (covering(ends, start + 1), covering(ends, end))
        found.append(range(first, last + 1))
    return found
