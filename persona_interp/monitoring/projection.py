"""How far the residual stream points along a persona vector: results of `project`.

The projection of a residual ``h`` is ``h . v / |v|``, in the units of the activations: what of the stream lies along the unit
direction. ``unit="vector_length"`` divides by ``|v|`` once more: 1 is what the vector itself would add at coefficient 1. Nothing
is subtracted: projections of ordinary text are rarely near 0, so compare them with each other, not with zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import layer_spans

Unit: TypeAlias = Literal["activation", "vector_length"]


@dataclass(frozen=True)
class TurnProjection:
    """One answer, or one question without an answer. Every value is given for each layer of the `Projections` it is in.

    Attributes:
        prompt: what the user said last; empty for plain text.
        answer: what was answered; None where nothing was. Plain text counts as answer.
        prompt_last: at the last prompt token, from which the answer is predicted; None for plain text.
        answer_mean: mean over the answer's tokens, the end-of-turn token left out; None where there are none.
        tokens: the tokens since the turn before, the prompt's first; empty where only means were asked for.
        n_prompt_tokens: how many of `tokens` are the prompt's.
        values: for each layer, one value a token.
    """

    prompt: str
    answer: str | None
    prompt_last: tuple[float, ...] | None
    answer_mean: tuple[float, ...] | None
    tokens: tuple[str, ...] = ()
    n_prompt_tokens: int = 0
    values: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class ChatProjection:
    """The turns of one conversation.

    Attributes:
        name: of the conversation.
        turns: at least one.
    """

    name: str
    turns: tuple[TurnProjection, ...]

    def drift(self, row: int = 0) -> tuple[float | None, ...]:
        """How far the mean of each turn's answer lies from that of the first turn that has one; `row` counts layers."""
        means = [None if turn.answer_mean is None else turn.answer_mean[row] for turn in self.turns]
        first = next((mean for mean in means if mean is not None), None)
        return tuple(None if mean is None or first is None else mean - first for mean in means)


@dataclass(frozen=True)
class Projections(Record):
    """Projections of some conversations onto one persona vector.

    Attributes:
        trait: of the vector.
        model: whose residual stream was read.
        layers: 0-based blocks; every list of values is in their order.
        norms: of the vector at each of them, in activation units.
        unit: ``activation`` or ``vector_length``, see the module.
        chats: in the order given.
        provenance: versions, and the vector's model.
    """

    json_kind = "projections"
    json_version = 1

    trait: str
    model: ModelIdentity
    layers: tuple[int, ...]
    norms: tuple[float, ...]
    unit: Unit
    chats: tuple[ChatProjection, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def row(self, layer: int) -> int:
        """Where the values of `layer` stand.

        Raises:
            InvalidInputError: it was not read.
        """
        if layer not in self.layers:
            raise InvalidInputError(f"layer {layer} was not read: there are layers {layer_spans(self.layers)} (0-based)")
        return self.layers.index(layer)

    def answers(self, layer: int) -> list[float | None]:
        """The mean over the last answer of each conversation."""
        row = self.row(layer)
        last = [chat.turns[-1].answer_mean for chat in self.chats]
        return [None if means is None else means[row] for means in last]

    def prompts(self, layer: int) -> list[float | None]:
        """The last prompt token of the last turn of each conversation."""
        row = self.row(layer)
        last = [chat.turns[-1].prompt_last for chat in self.chats]
        return [None if values is None else values[row] for values in last]


@dataclass(frozen=True, eq=False)
class Axis:
    """What residuals are projected onto: unit directions, and what the result is divided by.

    Attributes:
        layers: 0-based blocks.
        unit_directions: the vector's at each of them, at length 1.
        norms: the vector's.
        divisors: 1, or the vector's norms.
    """

    layers: tuple[int, ...]
    unit_directions: Float[Tensor, "layer d_model"]
    norms: tuple[float, ...]
    divisors: tuple[float, ...]

    @classmethod
    def of(cls, vector: PersonaVector, layers: Sequence[int] | None, unit: Unit) -> Axis:
        """The axis of a vector at some of its layers, all of them if None.

        Raises:
            InvalidInputError: the vector lacks a layer or is zero there, or the unit is not known.
        """
        checked_unit(unit)
        if layers is not None and not layers:
            raise InvalidInputError(f"no layer was given to read: choose from {layer_spans(vector.layers)}")
        chosen = vector if layers is None else vector.select(layers)
        norms = tuple(chosen.norms.tolist())
        divisors = norms if unit == "vector_length" else (1.0,) * len(norms)
        return cls(chosen.layers, chosen.normalised().directions, norms, divisors)

    def project(self, resid: Float[Tensor, "layer *pos d_model"]) -> Float[Tensor, "layer *pos"]:
        """Residuals at the axis's layers, in its order, as projections in float64."""
        directions = self.unit_directions.double()
        divisors = torch.tensor(self.divisors, dtype=torch.float64)
        if resid.ndim == 2:
            return (resid.double() * directions).sum(-1) / divisors
        return (resid.double() @ directions.unsqueeze(-1)).squeeze(-1) / divisors.unsqueeze(-1)


def checked_unit(unit: Any) -> Unit:
    """`unit` if there is such a one, else raise InvalidInputError."""
    if unit not in get_args(Unit):
        raise InvalidInputError(f"unit is {unit!r}: use 'activation' or 'vector_length'")
    return unit
