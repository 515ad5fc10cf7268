"""How much a visitor may ask for, and the checks of what was typed. Whatever a page allows, a request can be made without it."""

from __future__ import annotations

from persona_interp.errors import InvalidInputError
from persona_interp.models.sampling import Sampling

MIB = 2**20
MAX_UPLOAD = 64 * MIB
MAX_UNPACKED = 4 * MAX_UPLOAD
"""Bytes a compressed upload may unpack to."""
MAX_PROMPT = 4000
MAX_SYSTEM = 4000
MAX_DESCRIPTION = 1000
MAX_TRAIT_TEXT = 60_000
"""Characters of all the texts of a trait together."""
MAX_NEW_TOKENS = 512
MAX_TEMPERATURE = 5
MAX_DOSE = 1.0
"""As a share of the mean residual norm; beyond it answers fall apart."""
MAX_TOGETHER = 3
"""Vectors that steer at once."""
MAX_UNDONE = 50
"""Steerings a session remembers."""
MAX_SEED = 2**31 - 1
MAX_SAMPLES = 10
MAX_TURNS = 40
MAX_VECTORS = 24
"""Vectors a session holds; with more the oldest goes."""
MAX_SESSIONS = 64
MAX_SAID = 12_000
"""Characters of an answer that are shown."""


def checked_text(text: object, what: str, most: int, *, empty: bool = False) -> str:
    """`text` without the space around it.

    Raises:
        InvalidInputError: it is no text, too long, or empty where it may not be.
    """
    if text is None and empty:
        return ""
    if not isinstance(text, str):
        raise InvalidInputError(f"the {what} is a {type(text).__name__}, expected text")
    if len(text) > most:
        raise InvalidInputError(f"the {what} has {len(text)} characters: at most {most} are taken here, shorten it")
    stripped = text.strip()
    if not stripped and not empty:
        raise InvalidInputError(f"the {what} is empty: write something first")
    return stripped


def checked_whole(value: object, what: str, low: int, high: int) -> int:
    """`value` as a whole number from `low` to `high`.

    Raises:
        InvalidInputError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(low, high + 1):
        raise InvalidInputError(f"the {what} is {value!r}: give a whole number from {low} to {high}")
    return int(value)


def checked_number(value: object, what: str, low: float, high: float) -> float:
    """`value` as a number from `low` to `high`.

    Raises:
        InvalidInputError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # NaN is in no range
        raise InvalidInputError(f"the {what} is {value!r}: give a number from {low:g} to {high:g}")
    return float(value)


def checked_sampling(max_new_tokens: object, temperature: object) -> Sampling:
    """How answers are drawn.

    Raises:
        InvalidInputError: a value outside what is allowed here.
    """
    return Sampling(
        max_new_tokens=checked_whole(max_new_tokens, "answer length", 1, MAX_NEW_TOKENS),
        temperature=checked_number(temperature, "temperature", 0.0, MAX_TEMPERATURE),
    )
