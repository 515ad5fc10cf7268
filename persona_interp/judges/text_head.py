"""A small classifier of texts: one weight for each bucket of hashed words, pieces of words and signs. No language model."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from persona_interp.records import Record

N_BUCKETS = 2048
_PIECE = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[!?…\"“”(),;:—-]|\d+")
_LENGTHS = (3, 4)


@dataclass(frozen=True)
class TextHead(Record):
    """A logistic regression over `text_features`.

    Attributes:
        label: what it tells, such as ``silly``.
        weights: one a bucket.
        bias: added to their sum.
        measured: how it was trained, and how it did on texts it was not trained on.
    """

    json_kind = "text head"
    json_version = 1

    label: str
    weights: tuple[float, ...]
    bias: float
    measured: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def log_odds(self, text: str) -> float | None:
        """Log odds that the text has the label; None for a text without words."""
        found = text_features(text, len(self.weights))
        return None if not found.any() else float(found @ self._array) + self.bias

    @cached_property
    def _array(self) -> np.ndarray:
        return np.asarray(self.weights)


def text_features(text: str, n_buckets: int = N_BUCKETS) -> np.ndarray:
    """Which words, pieces of words of three and four letters, and signs there are, hashed, as a vector of length 1."""
    found = np.zeros(n_buckets)
    for piece in set(_PIECE.findall(text.casefold())):
        marked = f"<{piece}>"
        grams = {marked[start : start + n] for n in _LENGTHS for start in range(len(marked) - n + 1)} | {marked}
        for gram in grams:
            found[zlib.crc32(gram.encode()) % n_buckets] += 1.0 / math.sqrt(len(grams))
    norm = float(np.linalg.norm(found))
    return found / norm if norm else found
