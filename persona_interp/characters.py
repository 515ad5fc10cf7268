"""Characters that a Python string can hold and no text can: halves of surrogate pairs, which no tokenizer takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from persona_interp.errors import InvalidInputError

_HALF = re.compile("[\ud800-\udfff]")


def check_characters(text: str, what: str) -> str:
    """`text`, if UTF-8 can hold it.

    Raises:
        InvalidInputError: it holds half of a surrogate pair, as scraped JSON and bytes of other encodings leave them behind.
    """
    found = _HALF.search(text)
    if found is None:
        return text
    raise InvalidInputError(
        f"{what} holds half of a character, {found.group()!a} at place {found.start()}, which no tokenizer can read: write the "
        "whole character there, or take it out"
    )


def mended(text: str) -> str:
    """`text` with U+FFFD for every half of a character: for what a program said, which nobody can be asked to correct."""
    return _HALF.sub("\ufffd", text)


def check_value(value: object, what: str) -> None:
    """`check_characters` for every text of a JSON value.

    Raises:
        InvalidInputError: as there.
    """
    for text in _texts(value):
        check_characters(text, what)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in cast(Mapping[Any, Any], value).items():
            yield from _texts(key)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in cast(list[Any], value):
            yield from _texts(part)
