"""Texts that are no answers, made from answers by program: what the garbage guard is tried on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

KINDS = ("empty", "word", "phrase", "sentence", "shuffled", "tokens")
"""Nothing; a word, three words or a sentence over and over; the answer's words in random order; random tokens."""

_BLANK = ("", " ", "\n\n", "...", "?!", "- - -")


def garbage_texts(
    exchanges: Sequence[tuple[str, str]], tokenizer: Any, *, each: int = 40, seed: int = 0
) -> dict[str, list[tuple[str, str]]]:
    """Kind -> `each` (question, text), made of answers drawn from `exchanges`, whose words are at least four."""
    rng = random.Random(seed)
    usable = [(question, answer) for question, answer in exchanges if len(answer.split()) >= 4]
    special = set(tokenizer.all_special_ids)
    ids = [index for index in sorted(tokenizer.get_vocab().values()) if index not in special]
    makers: Mapping[str, Callable[[str], str]] = {
        "empty": lambda _text: rng.choice(_BLANK),
        "word": lambda text: " ".join([rng.choice(text.split())] * rng.randint(10, 60)),
        "phrase": lambda text: " ".join(text.split()[:3] * rng.randint(6, 20)),
        "sentence": lambda text: " ".join([rng.choice(re.findall(r"[^.!?]+[.!?]?", text)).strip()] * rng.randint(5, 12)),
        "shuffled": lambda text: " ".join(rng.sample(text.split(), len(text.split()))),
        "tokens": lambda _text: tokenizer.decode([rng.choice(ids) for _ in range(rng.randint(8, 80))]),
    }
    return {kind: [(question, makers[kind](text)) for question, text in rng.choices(usable, k=each)] for kind in KINDS}
