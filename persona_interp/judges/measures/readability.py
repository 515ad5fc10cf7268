"""Reading level by the automated readability index."""

from __future__ import annotations

from collections.abc import Callable

from persona_interp.errors import missing_extra
from persona_interp.judges.measure import Measure, Reader, register_measure


def _make() -> Reader:
    try:
        import textstat  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("measure 'readability'", "measures") from error
    # of its grades the one that needs no list of syllables, which this version would download
    index: Callable[[str], float] = textstat.automated_readability_index  # pyright: ignore[reportAttributeAccessIssue]
    return lambda text: float(index(text))


register_measure(
    Measure(
        "readability",
        what="how hard it is to read, by the length of its words and sentences alone",
        unit="years of school (United States); a list without full stops counts as one long sentence",
        low=-10.0,
        high=40.0,
        fewest_words=20,
        make=_make,
        source="textstat 0.7 (MIT): automated readability index, Senter & Smith 1967, fitted to English schoolbooks",
    )
)
