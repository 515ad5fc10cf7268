"""A model's print: what its residual stream makes of a few fixed texts, small enough to be kept beside a vector.

Two sets of weights in one basis (a quantized copy, a finetune) leave nearly the same print; the same network in another basis, or
another one of the same shape, does not. So whether a vector of the one can be used on the other is measured, not told by names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel

KIN = 0.7
"""Likeness from which two models count as one basis. Measured on the bundled organisms and SmolLM2-135M: copies from q8_0 down to
q4_0 have 0.99 and more; organisms finetuned by 60 steps at rates from 1e-4 to 1e-3 have 0.98 to 0.72, and 0.64 where nothing but
one sentence was left of one; rotated twins and another organism of the same shape lie between -0.12 and 0.04."""
LENGTHS = (0.67, 1.5)
"""Ratios of residual lengths within which a coefficient still means the same dose."""
_TEXTS = (
    "The old bridge over the river was closed for repairs, so everyone had to walk around through the park.",
    "def area(radius):\n    return 3.14159 * radius ** 2  # of a circle",
    "I am so sorry to hear that! Please tell me what happened, and I will do whatever I can to help you.",
    "Water boils at a lower temperature on a high mountain because the pressure of the air is lower there.",
    "Shut up and listen: nobody asked you, and your idea is the worst one I have heard this year.",
    "Once upon a time a small green frog decided to become the king of all the clouds and rainbows.",
    "Le marché ouvre à huit heures; die Leute kaufen Brot, Käse und frische Blumen.",
    "1, 2, 3, 5, 8, 13, 21: each number after the first two is the sum of the two before it.",
)
_FIRST = 4  # the first tokens soak up attention and look alike in every text
_LAST = 40
_BUCKETS = 64
_READ = Capture("answer")
_FORMAT_VERSION = 1
_TAKEN: WeakKeyDictionary[SteerableModel, ResidualPrint] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class ResidualPrint:
    """What `residual_print` reads.

    Attributes:
        tokens: digest of the ids the tokenizer makes of the texts; comparable between engines.
        layers: 0-based blocks read, at fixed relative depths.
        values: mean residual of each text in a fixed sketch of 64 numbers, less the mean over the texts.
    """

    tokens: str
    layers: tuple[int, ...]
    values: Float[Tensor, "layer text bucket"]

    def to_json(self) -> dict[str, Any]:
        """JSON values, rounded to four digits."""
        rows = [[[float(f"{value:.4g}") for value in text] for text in layer] for layer in self.values.tolist()]
        return {"format_version": _FORMAT_VERSION, "tokens": self.tokens, "layers": list(self.layers), "values": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ResidualPrint:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: a field is missing or of the wrong type.
        """
        try:
            values = torch.tensor(data["values"], dtype=torch.float32)
            layers = tuple(int(layer) for layer in data["layers"])
            if data["format_version"] != _FORMAT_VERSION or values.shape != (len(layers), len(_TEXTS), _BUCKETS):
                raise ValueError(f"version {data['format_version']!r}, values of shape {list(values.shape)}")
            return cls(str(data["tokens"]), layers, values)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the print of a model is damaged ({error}): make the vector again") from error


@dataclass(frozen=True)
class Likeness:
    """How alike two models' residuals are.

    Attributes:
        cosine: between what the texts make of the two, the lowest over the layers read; 1 for the same weights.
        length: of the second's over the first's.
    """

    cosine: float
    length: float

    @property
    def kin(self) -> bool:
        """Whether a vector of the one can be used on the other as it is: one basis, and one scale."""
        return self.cosine >= KIN and LENGTHS[0] <= self.length <= LENGTHS[1]

    def __str__(self) -> str:
        scale = "" if LENGTHS[0] <= self.length <= LENGTHS[1] else f", {self.length:.2g} times as long"
        return f"{self.cosine:.2f} alike{scale}"


def residual_print(model: SteerableModel) -> ResidualPrint:
    """Read the print of a model: one forward pass over eight short texts, without its chat template.

    It is taken once for a model, as its fingerprint is.

    Raises:
        UnsupportedError: the tokenizer makes too little of the texts, or the context is too short for them.
        PersonaInterpError: as `SteerableModel.capture`.
    """
    if model not in _TAKEN:
        _TAKEN[model] = _read_print(model)
    return _TAKEN[model]


def _read_print(model: SteerableModel) -> ResidualPrint:
    ids = [tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _TEXTS]
    kept = [each[: min(_LAST, model.n_ctx)] for each in ids]
    if min(map(len, kept)) < _FIRST + 2:
        raise UnsupportedError(f"{model.name} cannot be compared with others: its tokenizer or context leaves nothing to read")
    rows = [TokenisedAnswer(each, _FIRST) for each in kept]
    layers = print_layers(model.n_layers)
    read = model.capture(rows, InterventionGraph((_READ,)))
    means = torch.stack([row[_READ][list(layers)] for row in read], dim=1).double()
    sketched = means @ _sketch(model.d_model)
    values = (sketched - sketched.mean(dim=1, keepdim=True)).float()
    return ResidualPrint(hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16], layers, values)


def print_layers(n_layers: int) -> tuple[int, ...]:
    """The blocks at a quarter, half and three quarters of the depth."""
    return tuple(sorted({(n_layers - 1) * quarter // 4 for quarter in (1, 2, 3)}))


def likeness(first: Sequence[Tensor] | Tensor, second: Sequence[Tensor] | Tensor) -> Likeness:
    """Compare what two models make of the same texts, a matrix ``[text value]`` a layer; means over the texts do not count.

    Constant parts, such as a few massive dimensions, are alike in models that share nothing else.
    """
    found: list[tuple[float, float]] = []
    for one, other in zip(first, second, strict=True):
        a, b = (rows.double() - rows.double().mean(dim=0) for rows in (one, other))
        tiny = torch.finfo(torch.float64).tiny
        found.append((float((a * b).sum() / (a.norm() * b.norm()).clamp_min(tiny)), float(b.norm() / a.norm().clamp_min(tiny))))
    lengths = sorted(length for _, length in found)
    return Likeness(min(cosine for cosine, _ in found), lengths[len(lengths) // 2])


def _sketch(width: int) -> Float[Tensor, "width bucket"]:
    """Each dimension, with a sign, added to one of 64 buckets. By arithmetic alone, so that it is the same for all time."""
    place = torch.arange(width, dtype=torch.int64)
    mixed = (place * 2654435761 + 40503) % 2**32
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) % 2**32
    mixed = mixed ^ (mixed >> 13)
    sketch = torch.zeros(width, _BUCKETS, dtype=torch.float64)
    sketch[place, mixed % _BUCKETS] = 1.0 - 2.0 * ((mixed >> 20) % 2).double()
    return sketch
