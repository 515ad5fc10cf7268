"""`project`: read conversations through a model and project the residual stream onto persona vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import listed_texts
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.projection import Axis, ChatProjection, Projections, TurnProjection, Unit
from persona_interp.monitoring.rows import Text, TurnRow, chunks, shared_rows, token_texts, turn_rows
from persona_interp.provenance import provenance
from persona_interp.vectors.persona_vector import PersonaVector

Values: TypeAlias = tuple[float, ...]

_BYTES_AT_ONCE = 2**28
"""Of residuals at single tokens held in memory: they are projected and dropped before the next texts are read."""


def project(
    model: SteerableModel,
    vector: PersonaVector,
    texts: Text | Sequence[Text],
    *,
    layers: Sequence[int] | None = None,
    tokens: bool = True,
    unit: Unit = "activation",
    batch_size: int | None = None,
) -> Projections:
    """Project the residual stream onto `vector` at every token, over every answer and at the last prompt token.

    Example:
        >>> seen = project(model, vector, [Chat.of("How are you?", "Splendid, dear turnip!")], layers=[4])
        >>> seen.answers(4), seen.prompts(4)
        >>> seen.chats[0].turns[0].tokens, seen.chats[0].turns[0].values

    Args:
        model: which reads the texts; nothing is generated.
        vector: of this model.
        texts: one or several: a `Chat` or a list of messages (every turn is read), a `Conversation` (its last prompt token), or
            plain text (all of it, without roles).
        layers: of the vector; all of them if None.
        tokens: whether the values at single tokens are wanted. Without them long data sets need little memory.
        unit: ``activation``: projection onto the unit direction; ``vector_length``: that over the vector's norm.
        batch_size: rows run together; None lets the model choose.

    Raises:
        InvalidInputError: no text, one that does not fit into the context, or a layer the vector does not have.
        IncompatibleError: the vector does not fit the model.
        PersonaInterpError: residuals are NaN or infinite.
    """
    return project_each(model, [vector], listed_texts(texts), layers=[layers], tokens=tokens, unit=unit, batch_size=batch_size)[0]


def project_each(
    model: SteerableModel,
    vectors: Sequence[PersonaVector],
    texts: Sequence[Text],
    *,
    layers: Sequence[Sequence[int] | None],
    tokens: bool = True,
    unit: Unit = "activation",
    batch_size: int | None = None,
) -> list[Projections]:
    """`project` for several vectors, each at layers of its own; every text passes through the model once.

    Raises:
        InvalidInputError: as `project`; also no vector.
    """
    if not vectors:
        raise InvalidInputError("there is no vector to project onto: give at least one")
    if not texts:
        raise InvalidInputError("there is no text to project: give at least one")
    if blank := [place for place, text in enumerate(texts) if isinstance(text, str) and not text]:
        raise InvalidInputError(f"text {blank[0]} is empty: there is nothing to project")
    for vector in vectors:
        vector.check_fits(model.identity)
    axes = [Axis.of(vector, chosen, unit) for vector, chosen in zip(vectors, layers, strict=True)]
    turns = turn_rows(model, texts)
    read = _read_tokens if tokens else _read_means
    found = read(model, axes, turns, batch_size)
    origin = provenance(vectors=[vector.model.to_json() for vector in vectors])
    names = [text.name if isinstance(text, Chat) else "" for text in texts]
    return [
        Projections(vector.trait, model.identity, axis.layers, axis.norms, unit, _chats(names, turns, per_turn), origin)
        for vector, axis, per_turn in zip(vectors, axes, found, strict=True)
    ]


def _chats(names: Sequence[str], turns: Sequence[TurnRow], found: Sequence[TurnProjection]) -> tuple[ChatProjection, ...]:
    of_chat: list[list[TurnProjection]] = [[] for _ in names]
    for turn, projected in zip(turns, found, strict=True):
        of_chat[turn.chat].append(projected)
    return tuple(
        ChatProjection(name or f"text {place + 1}", tuple(each))
        for place, (name, each) in enumerate(zip(names, of_chat, strict=True))
    )


def _all_layers(axes: Sequence[Axis]) -> tuple[int, ...]:
    return tuple(sorted({layer for axis in axes for layer in axis.layers}))


def _read_means(
    model: SteerableModel, axes: Sequence[Axis], turns: Sequence[TurnRow], batch_size: int | None
) -> list[list[TurnProjection]]:
    """Means and last prompt tokens alone: a row a turn, averaged while the model runs."""
    read = mean_projections(model, axes, [turn.tokenised for turn in turns], batch_size=batch_size)
    return [
        [
            TurnProjection(turn.prompt, turn.answer, None if turn.plain else last, mean)
            for turn, (last, mean) in zip(turns, per_row, strict=True)
        ]
        for per_row in read
    ]


def mean_projections(
    model: SteerableModel, axes: Sequence[Axis], rows: Sequence[TokenisedAnswer], *, batch_size: int | None = None
) -> list[list[tuple[Values | None, Values | None]]]:
    """For each axis and row: at the last prompt token, and the mean over the answer, each at the axis's layers.

    None where the row has no such token that passes through the model.

    Raises:
        InvalidInputError: a row does not fit into the context.
        PersonaInterpError: residuals are NaN or infinite.
    """
    layers = _all_layers(axes)
    last, mean = Capture("prompt_last", layers=layers), Capture("answer", layers=layers)
    results = model.capture(rows, InterventionGraph((last, mean)), batch_size=batch_size)
    found: list[list[tuple[Values | None, Values | None]]] = []
    for axis in axes:
        wanted = [layers.index(layer) for layer in axis.layers]
        found.append(
            [
                (
                    None if last not in read else _listed(axis, read[last][wanted]),
                    None if mean not in read else _listed(axis, read[mean][wanted]),
                )
                for read in results
            ]
        )
    return found


def _read_tokens(
    model: SteerableModel, axes: Sequence[Axis], turns: Sequence[TurnRow], batch_size: int | None
) -> list[list[TurnProjection]]:
    """Every token: a row a text where its turns share their tokens, projected a few texts at a time."""
    layers = _all_layers(axes)
    everything = Capture("all", "none", layers)
    of_turn: dict[int, list[TurnProjection]] = {}
    most = max(1, _BYTES_AT_ONCE // (len(layers) * model.d_model * model.dtype.itemsize))
    for group in chunks(shared_rows(turns), most):
        results = model.capture([row.tokenised for row in group], InterventionGraph((everything,)), batch_size=batch_size)
        for row, read in zip(group, results, strict=True):
            texts = token_texts(model.tokenizer, row.tokenised.ids[: row.n_read])
            projected = [axis.project(read[everything][[layers.index(layer) for layer in axis.layers]]) for axis in axes]
            start = 0
            for index in row.turns:
                turn = turns[index]
                of_turn[index] = [_turn(turn, texts, values, start) for values in projected]
                start = turn.n_read
    return [[of_turn[index][place] for index in range(len(turns))] for place in range(len(axes))]


def _turn(turn: TurnRow, texts: Sequence[str], values: Tensor, start: int) -> TurnProjection:
    """The part of a row ``[layer pos]`` that is new in `turn`, from token `start` on."""
    _check_finite(values)
    n_prompt, end = turn.tokenised.n_prompt, turn.n_read
    return TurnProjection(
        prompt=turn.prompt,
        answer=turn.answer,
        prompt_last=None if turn.plain or not n_prompt else tuple(values[:, n_prompt - 1].tolist()),
        answer_mean=tuple(values[:, n_prompt:end].mean(dim=1).tolist()) if end > n_prompt else None,
        tokens=tuple(texts[start:end]),
        n_prompt_tokens=max(0, n_prompt - start),
        values=tuple(tuple(row) for row in values[:, start:end].tolist()),
    )


def _listed(axis: Axis, resid: Tensor) -> Values:
    values = axis.project(resid)
    _check_finite(values)
    return tuple(values.tolist())


def _check_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise PersonaInterpError("residuals are NaN or infinite: load the model in bfloat16 or float32")
