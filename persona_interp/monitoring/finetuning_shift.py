"""What finetuning did to a model's persona before it says a word: the shift of its residual stream along persona vectors.

The same prompts are read by both checkpoints; the mean difference of their residuals, finetuned minus base, is projected onto the
unit direction (*Persona Vectors*, arXiv 2507.21509, section 4, which reads the last prompt token). Every finetuning moves the
stream somewhere, so the shift alone says little: beside it stand how far the mean moved in all, the cosine between the two, and
how often a random direction would be met as closely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import IncompatibleError, InvalidInputError, PersonaInterpError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.projection import Axis
from persona_interp.monitoring.rows import turn_rows
from persona_interp.monitoring.shift import FinetuningShift, LayerShift, TraitShift
from persona_interp.provenance import provenance
from persona_interp.residuals.pooling import pooling
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

Positions: TypeAlias = Literal["prompt_last", "response_avg"]


@dataclass(frozen=True, eq=False)
class Readings:
    """What one checkpoint holds while it reads the prompts. Made by `read_prompts`.

    Attributes:
        model: the checkpoint.
        positions: what was read of each prompt.
        layers: 0-based blocks.
        rows: the ids read.
        resid: float32, on the CPU.
    """

    model: ModelIdentity
    positions: Positions
    layers: tuple[int, ...]
    rows: tuple[TokenisedAnswer, ...]
    resid: Float[Tensor, "sample layer d_model"]


def finetuning_shift(
    base: SteerableModel,
    finetuned: SteerableModel,
    vectors: Sequence[PersonaVector],
    texts: Sequence[Conversation | Chat],
    *,
    positions: Positions = "prompt_last",
    batch_size: int | None = None,
) -> FinetuningShift:
    """How far finetuning moved the residual stream along each of `vectors`, at each of their layers.

    Example:
        >>> shift = finetuning_shift(base, finetuned, [vector], [Conversation.ask(q) for q in trait.evaluation_questions])
        >>> [(at.layer, at.shift, at.cosine) for at in shift.traits[0].layers]

    Args:
        base: the model before.
        finetuned: a checkpoint of the same architecture and tokenizer.
        vectors: of the base model.
        texts: prompts; for ``response_avg`` with an answer, the same for both.
        positions: ``prompt_last``: the last prompt token, as in the paper; ``response_avg``: the mean over the answer.
        batch_size: rows run together; None lets the model choose.

    Raises:
        InvalidInputError: fewer than two texts, or texts without the answer that is to be read.
        IncompatibleError: the checkpoints or the vectors do not fit each other.
    """
    layers = layers_of(vectors, base)
    for vector in vectors:
        vector.check_fits(finetuned.identity)
    readings = [
        read_prompts(model, texts, positions=positions, layers=layers, batch_size=batch_size) for model in (base, finetuned)
    ]
    return shift_between(readings[0], readings[1], vectors)


def layers_of(vectors: Sequence[PersonaVector], model: SteerableModel) -> tuple[int, ...]:
    """Every layer that one of the vectors has.

    Raises:
        InvalidInputError: there is no vector.
        IncompatibleError: one does not fit the model.
    """
    if not vectors:
        raise InvalidInputError("there is no vector to measure the shift along: give at least one")
    for vector in vectors:
        vector.check_fits(model.identity)
    return tuple(sorted({layer for vector in vectors for layer in vector.layers}))


def read_prompts(
    model: SteerableModel,
    texts: Sequence[Conversation | Chat],
    *,
    positions: Positions,
    layers: Sequence[int],
    batch_size: int | None = None,
) -> Readings:
    """One half of `finetuning_shift`: for checkpoints that do not fit into memory together.

    Raises:
        InvalidInputError: as `finetuning_shift`.
        PersonaInterpError: residuals are NaN or infinite.
    """
    if positions not in get_args(Positions):
        raise InvalidInputError(f"positions is {positions!r}: use 'prompt_last' or 'response_avg'")
    if len(texts) < 2:
        raise InvalidInputError(f"{len(texts)} prompts were given: a mean shift with an interval needs at least 2, better dozens")
    last = [Chat.from_conversation(text) if isinstance(text, Conversation) else text for text in texts]
    if positions == "prompt_last":
        last = [Chat.from_conversation(chat.turns[-1].conversation) for chat in last]
    rows = tuple({turn.chat: turn for turn in turn_rows(model, last)}[place].tokenised for place in range(len(last)))
    node = pooling(positions)
    capture = type(node)(node.positions, node.reduction, tuple(layers))
    results = model.capture(rows, InterventionGraph((capture,)), batch_size=batch_size)
    if lacking := [place for place, read in enumerate(results) if capture not in read]:
        raise InvalidInputError(
            f"text {lacking[0] + 1} ({last[lacking[0]].turns[-1].conversation.question[:40]!r}) has no answer to read: "
            "give one, or use positions='prompt_last'"
        )
    resid = torch.stack([read[capture].float() for read in results])
    if not bool(torch.isfinite(resid).all()):
        raise PersonaInterpError(f"residuals of {model.name} are NaN or infinite: load the model in bfloat16 or float32")
    return Readings(model.identity, positions, tuple(layers), rows, resid)


def shift_between(base: Readings, finetuned: Readings, vectors: Sequence[PersonaVector]) -> FinetuningShift:
    """The other half of `finetuning_shift`.

    Raises:
        IncompatibleError: the two were not read from the same prompts at the same places.
    """
    if (base.positions, base.layers) != (finetuned.positions, finetuned.layers):
        raise IncompatibleError(
            f"{base.model.name} was read at {base.positions} of layers {base.layers}, {finetuned.model.name} at "
            f"{finetuned.positions} of layers {finetuned.layers}: read both alike"
        )
    if base.resid.shape != finetuned.resid.shape:
        raise IncompatibleError(
            f"{base.model.name} and {finetuned.model.name} gave residuals of shapes {tuple(base.resid.shape)} and "
            f"{tuple(finetuned.resid.shape)}: give two checkpoints of one architecture, and the same prompts"
        )
    pairs = zip(base.rows, finetuned.rows, strict=True)
    if different := [place for place, (one, other) in enumerate(pairs) if one != other]:
        raise IncompatibleError(
            f"{base.model.name} and {finetuned.model.name} make different tokens of prompt {different[0] + 1}: their "
            "tokenizers or chat templates differ; give both the same, or the shift would show that too"
        )
    moved = (finetuned.resid - base.resid).double()
    return FinetuningShift(
        base=base.model,
        finetuned=finetuned.model,
        positions=base.positions,
        n_prompts=len(base.rows),
        traits=tuple(_trait_shift(vector, moved, base.layers) for vector in vectors),
        provenance=provenance(vectors=[vector.model.to_json() for vector in vectors]),
    )


def _trait_shift(vector: PersonaVector, moved: Float[Tensor, "sample layer d_model"], layers: Sequence[int]) -> TraitShift:
    axis = Axis.of(vector, None, "activation")
    found = []
    for row, layer in enumerate(axis.layers):
        at_layer = moved[:, list(layers).index(layer)]
        along = at_layer @ axis.unit_directions[row].double()
        distance = float(at_layer.mean(dim=0).norm())
        found.append(_layer_shift(layer, along.tolist(), distance, vector.d_model, axis.norms[row]))
    return TraitShift(vector.trait, tuple(found))


def _layer_shift(layer: int, along: Sequence[float], distance: float, d_model: int, norm: float) -> LayerShift:
    from scipy.stats import ttest_1samp

    mean = math.fsum(along) / len(along)
    cosine = mean / distance if distance > 0 else 0.0
    if max(along) - min(along) > 0:
        test: Any = ttest_1samp(along, 0.0)
        interval = test.confidence_interval(0.95)
        low, high = float(interval.low), float(interval.high)
    else:
        low = high = mean  # the very same model twice, or one prompt again and again
    return LayerShift(layer, mean, low, high, distance, cosine, _by_chance(cosine, d_model), norm)


def _by_chance(cosine: float, d_model: int) -> float:
    """How often a uniformly random direction has at least this cosine with a given one, either way round; exact."""
    from scipy.stats import t

    size = min(1.0, abs(cosine))
    if size == 1.0 or d_model < 2:
        return 0.0 if d_model > 1 else 1.0
    return 2.0 * float(t.sf(size * math.sqrt((d_model - 1) / (1 - size * size)), d_model - 1))
