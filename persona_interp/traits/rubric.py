"""Rubrics: a judge's instructions, with places for the question and the answer it is to rate."""

from __future__ import annotations

import re

from persona_interp.errors import InvalidInputError

PLACEHOLDERS = ("{question}", "{answer}")
_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))


def check_rubric(rubric: str, what: str) -> str:
    """`rubric` itself.

    Raises:
        InvalidInputError: a placeholder is missing; names it and `what` the rubric is.
    """
    for placeholder in PLACEHOLDERS:
        if placeholder not in rubric:
            raise InvalidInputError(f"{what} does not contain {placeholder}; the judge would not see it")
    return rubric


def fill_rubric(rubric: str, question: str, answer: str) -> str:
    """The rubric with both placeholders filled; other braces, also those in the texts put in, stay as they are."""
    values = {"{question}": question, "{answer}": answer}
    return _PLACEHOLDER.sub(lambda match: values[match.group()], rubric)
