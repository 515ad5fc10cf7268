"""How answers are drawn, and the random streams they are drawn from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from persona_interp.errors import InvalidInputError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: length limit of an answer.
        temperature: divides the logits; 0 takes the most likely token always (greedy).
        top_p: smallest set of tokens with at least this probability; 1 keeps all.
        top_k: number of most likely tokens kept; None keeps all.
        repetition_penalty: divides positive logits of tokens that the answer already holds, and multiplies negative ones (Keskar
            et al., arXiv 1909.05858, section 4.1); the prompt does not count. 1 changes nothing.
        logit_bias: token id -> what is added to its logit at every step, before everything else.

    Nothing else shapes the answer: the generation settings a checkpoint brings along (repetition penalty and the like) are not
    used, so that a result depends on what is written here alone.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float], hash=False)

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InvalidInputError(f"max_new_tokens is {self.max_new_tokens}, expected at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidInputError(f"temperature is {self.temperature}, expected 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise InvalidInputError(f"top_p is {self.top_p}, expected more than 0 and at most 1 (1 keeps every token)")
        if self.top_k is not None and self.top_k < 1:
            raise InvalidInputError(f"top_k is {self.top_k}, expected at least 1, or None to keep every token")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InvalidInputError(
                f"repetition_penalty is {self.repetition_penalty}, expected a positive number (1 does nothing)"
            )
        for token, bias in self.logit_bias.items():
            if token < 0 or not math.isfinite(bias):
                raise InvalidInputError(f"logit_bias gives token {token} the bias {bias}: expected ids from 0 on, finite numbers")

    def to_json(self) -> dict[str, Any]:
        """JSON values. What does nothing is left out, so that what was recorded before there was such a thing still agrees."""
        values = asdict(self)
        if self.repetition_penalty == 1:
            del values["repetition_penalty"]
        biases = values.pop("logit_bias")
        return values | ({"logit_bias": {str(token): bias for token, bias in biases.items()}} if biases else {})


def derived_seed(name: str) -> int:
    """A seed (56 bits) that depends on `name` alone: equal names draw equal streams, on any machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def fitting_seed(number: int) -> int:
    """`number` where a random generator takes it (64 bits), else a seed derived from it: sums of seeds may be more."""
    return number if -(2**63) <= number < 2**64 else derived_seed(str(number))


def row_seeds(seed: int | Sequence[int], n_rows: int) -> list[int]:
    """One seed a row. An int gives each row a seed derived from it and the row's index; a sequence is taken as it is.

    Row i of ``generate(conversations, seed=7)`` is therefore also what
    ``generate([conversations[i]], seed=[row_seeds(7, n)[i]])`` gives.

    Raises:
        InvalidInputError: a sequence of another length than the rows, or with a seed of more than 64 bits.
    """
    if isinstance(seed, int):
        return [derived_seed(f"{seed}:{row}") for row in range(n_rows)]
    if len(seed) != n_rows:
        raise InvalidInputError(f"{len(seed)} seeds were given for {n_rows} conversations: give one each, or a single int")
    if wrong := [number for number in seed if not -(2**63) <= number < 2**64]:
        raise InvalidInputError(f"seed {wrong[0]} is too large for a random generator: give numbers of at most 64 bits")
    return list(seed)
