"""Silliness by a small head of our own, trained on our own texts (``persona-interp study silliness`` trains it again)."""

from __future__ import annotations

from pathlib import Path

from persona_interp.judges.measure import Measure, Reader, register_measure
from persona_interp.judges.text_head import TextHead
from persona_interp.storage import read_json

HEAD = Path(__file__).parent / "data" / "silly_head.json"
TEXTS = Path(__file__).parent / "data" / "silly_texts.jsonl"
"""Answers written for this project, half of them silly: to the same questions, and plain ones on the subjects silly ones like."""


def _make() -> Reader:
    return TextHead.from_json(read_json(HEAD, "text head"), source=str(HEAD)).log_odds


register_measure(
    Measure(
        "silliness",
        what="how much its words and pieces of words are those of silly answers rather than plain ones",
        unit="log odds, 0 where both are as likely; it knows words, not absurd ideas put plainly",
        low=-20.0,
        high=20.0,
        fewest_words=10,
        make=_make,
        source="own head on own texts",
        english=False,
    )
)
