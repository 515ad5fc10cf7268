"""Training the head that measures silliness, and what it is worth on texts it was not trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persona_interp.errors import FileFormatError
from persona_interp.judges.text_head import N_BUCKETS, TextHead, text_features
from persona_interp.measure.statistics import auroc

FOLDS = 5
SEED = 0
PENALTY = 0.001
"""Of the squared weights, beside the mean loss of a text. Best of .001, .003 and .01 on the held-out folds (.87, .86, .84)."""
_DIGITS = 4


@dataclass(frozen=True)
class LabelledText:
    """A text of the training data.

    Attributes:
        topic: texts on one topic are held out together.
        text: what was written.
        silly: whether it is.
    """

    topic: int
    text: str
    silly: bool


def labelled_texts(path: Path) -> list[LabelledText]:
    """The texts of a file of JSON lines.

    Raises:
        FileFormatError: a line is malformed; names it.
    """
    found: list[LabelledText] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found.append(LabelledText(int(row["topic"]), str(row["text"]), bool(row["silly"])))
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path}, line {number}: {error!r}; expected topic, text and silly") from error
    return found


def train_silliness(texts: Sequence[LabelledText], *, seed: int = SEED) -> TextHead:
    """A head trained on all texts, with what heads trained without a fifth of the topics made of that fifth.

    Example:
        >>> head = train_silliness(labelled_texts(TEXTS))
        >>> head.measured["auroc"], head.measured["auroc_length"]
    """
    features = np.stack([text_features(each.text) for each in texts])
    labels = np.asarray([each.silly for each in texts], dtype=float)
    topics = sorted({each.topic for each in texts})
    random.Random(seed).shuffle(topics)
    fold_of = {topic: place % FOLDS for place, topic in enumerate(topics)}
    folds = np.asarray([fold_of[each.topic] for each in texts])
    held_out = np.zeros(len(texts))
    for fold in range(FOLDS):
        rest = folds != fold
        weights, bias = _fitted(features[rest], labels[rest])
        held_out[~rest] = features[~rest] @ weights + bias
    weights, bias = _fitted(features, labels)
    lengths = [float(len(each.text.split())) for each in texts]
    measured: dict[str, Any] = {
        "texts": len(texts),
        "silly": int(labels.sum()),
        "topics": len(topics),
        "folds": FOLDS,
        "penalty": PENALTY,
        "seed": seed,
        "auroc": _area(list(held_out), texts),
        "auroc_length": _area(lengths, texts),
        "accuracy": round(float(np.mean((held_out > 0) == (labels > 0))), 3),
    }
    return TextHead("silly", tuple(round(float(weight), _DIGITS) for weight in weights), round(bias, _DIGITS), measured)


def _area(scores: Sequence[float], texts: Sequence[LabelledText]) -> float:
    sides = [[score for score, each in zip(scores, texts, strict=True) if each.silly == kind] for kind in (True, False)]
    return round(auroc(*sides).value or 0.5, 3)


def _fitted(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of the logistic regression with `PENALTY`."""
    from scipy.optimize import minimize

    signs = 2 * labels - 1

    def loss(packed: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (features @ packed[:-1] + packed[-1])
        slopes = -signs / (1 + np.exp(np.clip(margins, -50, 50))) / len(labels)
        gradient = np.append(features.T @ slopes + 2 * PENALTY * packed[:-1], slopes.sum())
        return float(np.logaddexp(0, -margins).mean() + PENALTY * packed[:-1] @ packed[:-1]), gradient

    found = minimize(loss, np.zeros(N_BUCKETS + 1), jac=True, method="L-BFGS-B")
    return found.x[:-1], float(found.x[-1])
