"""Grammar errors by Harper: coherence lost by sentences that are not well formed."""

from __future__ import annotations

import random
import threading

from persona_interp.errors import missing_extra
from persona_interp.judges.measure import Measure, Reader, per_hundred, register_measure
from persona_interp.judges.words import reordered

_NOT_GRAMMAR = frozenset({"Spelling", "Style", "WordChoice", "Enhancement", "Readability", "Regionalism", "Formatting"})
"""Names and invented words are no errors, nor is a matter of taste."""


def _make() -> Reader:
    try:
        import harper  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("measure 'errors'", "measures") from error
    linter, lock = harper.Linter(harper.Dialect.AMERICAN), threading.Lock()  # a linter serves one thread at a time

    def read(text: str) -> float:
        with lock:
            found = linter.lint(text, language=harper.Language.PLAINTEXT)
        return per_hundred(sum(str(error.lint_kind) not in _NOT_GRAMMAR for error in found), text)

    return read


def _shuffled(text: str, rng: random.Random) -> str:
    return reordered(text, 1.0, rng)


register_measure(
    Measure(
        "errors",
        what="grammar errors: agreement, articles, missing and doubled words, punctuation, capitals; no spelling, no style",
        unit="errors per 100 words; a rule-based checker, which passes over most sentences that only make no sense",
        low=0.0,
        high=100.0,
        fewest_words=20,
        make=_make,
        source="harper-py 0.2 (Apache-2.0), which carries Harper's rules and dictionary",
        damage=_shuffled,
    )
)
