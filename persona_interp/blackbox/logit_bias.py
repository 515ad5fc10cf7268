"""What can be said to a model that takes biases of its tokens: a vector as a map from token id to what is added to its logit.

The vector is read in its own model (`TokenLens`), and what it does there to a token it is to do to the token of the target that
spells the same. Unlike sampling parameters this carries meaning, but only what can be said of one token at a time, wherever in an
answer it stands: the target's own computation never learns of the vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.blackbox.token_lens import LENS, TokenLens
from persona_interp.blackbox.token_texts import TokenTexts
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.models.sampling import Sampling
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import finite_number

BOUND = 100.0
"""Largest bias that OpenAI-compatible servers take, in either direction."""
ENTRIES = 300
"""Biases sent at most: some servers take no longer lists."""


@dataclass(frozen=True)
class LogitBiasModulator:
    """Maps a coefficient to biases of tokens: linear in it, until a bias reaches the bound.

    Example:
        >>> lens = TokenLens(source, trait.extraction_questions)
        >>> modulator = LogitBiasModulator.of(vector, lens, TokenTexts(target.tokenizer), layers=[3])
        >>> target.generate([Conversation.ask("How are you?")], sampling=modulator.sampling(2.0))

    Attributes:
        biases: token id of the target -> bias at coefficient 1.
        base: the parameters at coefficient 0, whose own biases are added.
        bound: no bias goes beyond it in either direction.
        trait: what the vector is of, for records.
        reading: how it was read, see `TokenLens`.
        coverage: how much of what was read the entries hold, from 0 to 1; the rest is of tokens that the target does not have,
            or beyond the number of entries.

    Raises:
        InvalidInputError: a bound out of range, or a base that goes beyond it.
    """

    biases: Mapping[int, float] = field(hash=False)
    base: Sampling = field(default_factory=Sampling)
    bound: float = BOUND
    trait: str = "unknown"
    reading: str = "unknown"
    coverage: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.bound <= BOUND:
            raise InvalidInputError(f"the bound of biases is {self.bound}, expected more than 0 and at most {BOUND:g}")
        Sampling(logit_bias=self.biases)  # refuses what is no id or no finite number
        if any(abs(bias) > self.bound for bias in self.base.logit_bias.values()):
            raise InvalidInputError(f"the base has biases beyond the bound of {self.bound:g}: biases are moved within it")

    @classmethod
    def of(
        cls,
        vector: PersonaVector,
        lens: TokenLens,
        target: TokenTexts,
        *,
        layers: Sequence[int] | None = None,
        base: Sampling | None = None,
        reading: str = LENS,
        step: float = 1.0,
        entries: int = ENTRIES,
        bound: float = BOUND,
    ) -> LogitBiasModulator:
        """The modulator of a vector for a target.

        The entries kept are those that change what the source would write most: with probability p and bias b, p b^2 is twice
        their part of the divergence between the biased and the unbiased distribution, to second order.

        Args:
            vector: of the lens's model.
            lens: reads it.
            target: the tokens of the target.
            layers: where the vector would be added in its own model; all of its layers if None.
            base: the parameters at coefficient 0; `Sampling()` if not given.
            reading: ``lens`` or ``shift``.
            step: coefficient at which ``shift`` steers.
            entries: biases at most.
            bound: of each bias.

        Raises:
            InvalidInputError: `entries` below 1; also as `TokenLens.read`.
            IncompatibleError: the two vocabularies have no token in common that the vector moves.
        """
        if entries < 1:
            raise InvalidInputError(f"entries is {entries}, expected at least 1")
        shift = lens.read(vector, layers=layers, reading=reading, step=step)
        weights = shift.probabilities.double() * shift.logits.double().square()
        spelled = {index: text for index, text in lens.texts.by_id.items() if index < len(weights)}
        kept, covered = _matched(spelled, target, weights, entries)
        if not kept:
            raise IncompatibleError(
                f"no token that {vector.trait!r} moves in {lens.model.name} is a token of {target.name}: check that this is the "
                "target's tokenizer"
            )
        total = float(weights[list(spelled)].sum())
        biases = {index: float(shift.logits[origin]) for index, origin in kept.items()}
        return cls(biases, base or Sampling(), bound, vector.trait, shift.reading, min(1.0, covered / total))

    def sampling(self, coefficient: float) -> Sampling:
        """The parameters at `coefficient`.

        Raises:
            InvalidInputError: the coefficient is not a finite number.
        """
        number = finite_number(coefficient, "the coefficient")
        moved = dict(self.base.logit_bias)
        for index, bias in self.biases.items():
            moved[index] = min(max(moved.get(index, 0.0) + number * bias, -self.bound), self.bound)
        return replace(self.base, logit_bias={index: bias for index, bias in moved.items() if bias})

    def to_json(self) -> dict[str, Any]:
        """JSON values, for records."""
        return {
            "trait": self.trait,
            "reading": self.reading,
            "coverage": self.coverage,
            "bound": self.bound,
            "biases": {str(index): bias for index, bias in self.biases.items()},
            "base": self.base.to_json(),
        }


def _matched(
    spelled: Mapping[int, str], target: TokenTexts, weights: Float[Tensor, " vocab"], entries: int
) -> tuple[dict[int, int], float]:
    """Target id -> source id for the tokens of largest weight that both have, and how much weight they hold."""
    kept: dict[int, int] = {}
    covered = 0.0
    for origin in torch.argsort(weights, descending=True).tolist():
        if len(kept) >= entries or weights[origin] == 0:
            break
        text = spelled.get(origin)
        if text is None or text not in target.ids:
            continue
        covered += float(weights[origin])
        for index in target.ids[text]:
            if len(kept) < entries:
                kept.setdefault(index, origin)
    return kept, covered
