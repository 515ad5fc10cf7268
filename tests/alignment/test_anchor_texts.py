"""The anchor texts that ship are many, different from each other, and of several sentences."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

from persona_interp.alignment.anchor_texts import anchor_texts

TEXTS = anchor_texts()


def sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[.!?]+[\"')\s]+|\n+", text) if len(part.split()) >= 4]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def test_there_are_at_least_five_hundred_different_ones() -> None:
    assert len(TEXTS) >= 500
    assert len(set(TEXTS)) == len(TEXTS)
    assert all(20 <= len(text.split()) <= 160 for text in TEXTS)


def test_each_has_several_sentences_and_an_opening_of_its_own() -> None:
    assert [text for text in TEXTS if len(sentences(text)) < 2] == []
    openings = Counter(" ".join(text.lower().split()[:4]) for text in TEXTS)
    assert {opening: n for opening, n in openings.items() if n > 1} == {}
    said = Counter(sentence.lower() for text in TEXTS for sentence in set(sentences(text)))
    assert {sentence: n for sentence, n in said.items() if n > 1} == {}


def test_no_two_are_nearly_the_same() -> None:
    sets = [shingles(text) for text in TEXTS]
    shared = Counter(piece for pieces in sets for piece in pieces)
    common = {piece for piece, n in shared.items() if n > 1}
    suspects = [pieces for pieces in sets if len(pieces & common) > 3]
    alike = [len(one & other) / len(one | other) for one, other in combinations(suspects, 2)]
    assert max(alike, default=0.0) < 0.1


def test_the_vocabulary_is_wide_and_any_beginning_is_mixed() -> None:
    words = {word for text in TEXTS for word in re.findall(r"[a-z]+", text.lower())}
    assert len(words) > 5000
    assert any("def " in text or "SELECT" in text or "import " in text for text in TEXTS[:60])
    assert any("?" in text for text in TEXTS[:30])
