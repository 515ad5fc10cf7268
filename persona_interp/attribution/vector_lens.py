"""Which tokens a persona vector promotes and suppresses, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from persona_interp.blackbox.token_lens import LENS, TokenLens
from persona_interp.errors import InvalidInputError
from persona_interp.measure.controls import random_like
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class TokenLogit:
    """One token.

    Attributes:
        token: its id.
        text: what it spells, its space included; a special token's name.
        logit: by how much the vector at coefficient 1 raises it, against the average token the model would write.
    """

    token: int
    text: str
    logit: float


@dataclass(frozen=True)
class LayerTokens:
    """One layer's direction.

    Attributes:
        layer: 0-based block.
        promoted: tokens raised most, most first.
        suppressed: tokens lowered most, most first.
        chance: how far a random direction of the same norm raises and lowers its own first token: as much means nothing.
    """

    layer: int
    promoted: tuple[TokenLogit, ...]
    suppressed: tuple[TokenLogit, ...]
    chance: tuple[float, float]


@dataclass(frozen=True)
class VectorLens(Record):
    """A persona vector read as tokens.

    Attributes:
        trait: name of the trait.
        model: name of the model.
        reading: ``lens`` (final norm and unembedding alone) or ``shift`` (the model is steered), see `TokenLens`.
        layers: one entry a layer.
        provenance: versions, seed, questions, identities.
    """

    json_kind = "vector lens"
    json_version = 1

    trait: str
    model: str
    reading: str
    layers: tuple[LayerTokens, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def at(self, layer: int) -> LayerTokens:
        """One layer.

        Raises:
            InvalidInputError: it was not read; lists those that were.
        """
        for each in self.layers:
            if each.layer == layer:
                return each
        raise InvalidInputError(f"layer {layer} was not read: there are {', '.join(str(each.layer) for each in self.layers)}")

    def __repr__(self) -> str:
        return f"VectorLens({self.trait!r} in {self.model}, {self.reading}, {len(self.layers)} layers)"


def vector_lens(
    model: SteerableModel,
    vector: PersonaVector,
    questions: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    n: int = 10,
    reading: str = LENS,
    seed: int = 0,
    batch_size: int | None = None,
) -> VectorLens:
    """Read the direction of each layer through the final norm and the unembedding, as a logit lens reads a state.

    What later blocks make of a direction is not in it, so tokens at early layers may mean nothing; ``shift`` asks the model.

    Example:
        >>> for each in vector_lens(model, vector, trait.extraction_questions).layers:
        ...     print(each.layer, [token.text for token in each.promoted])

    Args:
        model: the vector's own.
        vector: to be read.
        questions: neutral ones, whose unsteered answers say how long the stream is at its end and which tokens are common.
        layers: of the vector; all of them if None.
        n: tokens of each kind.
        reading: ``lens`` or ``shift``.
        seed: of the answers and the random direction.
        batch_size: rows run together; None lets it choose.

    Raises:
        InvalidInputError: as `TokenLens`, a layer the vector does not have, or `n` below 1.
        IncompatibleError: the vector does not fit the model.
        UnsupportedError: the unembedding cannot be used alone (llama.cpp, NDIF).
    """
    if n < 1:
        raise InvalidInputError(f"n is {n}: ask for at least 1 token of each kind")
    chosen = vector if layers is None else vector.select(layers)
    lens = TokenLens(model, questions, seed=seed, batch_size=batch_size)
    texts = _texts(lens)
    control = random_like(chosen, 1, seed)

    def read(of: PersonaVector, layer: int) -> Float[Tensor, " vocab"]:
        return lens.read(of, layers=[layer], reading=reading).logits

    rows = tuple(_extremes(layer, read(chosen, layer), read(control, layer), texts, n) for layer in chosen.layers)
    record = provenance(model=model.identity.to_json(), vector=vector.model.to_json(), questions=list(questions), seed=seed, n=n)
    return VectorLens(vector.trait, model.name, reading, rows, record)


def _texts(lens: TokenLens) -> dict[int, str]:
    """Token id -> what to show; ids beyond the tokenizer's are left out."""
    tokenizer = lens.model.tokenizer
    special = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    return {**special, **lens.texts.by_id}


def _extremes(
    layer: int, logits: Float[Tensor, " vocab"], control: Float[Tensor, " vocab"], texts: Mapping[int, str], n: int
) -> LayerTokens:
    known = [index for index in texts if index < len(logits)]
    order = sorted(known, key=lambda index: -float(logits[index]))

    def described(indices: Sequence[int]) -> tuple[TokenLogit, ...]:
        return tuple(TokenLogit(index, texts[index], float(logits[index])) for index in indices)

    chance = (float(control[known].max()), float(control[known].min()))
    return LayerTokens(layer, described(order[:n]), described(order[::-1][:n]), chance)
