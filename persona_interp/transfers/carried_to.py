"""A vector of whatever model, for the model at hand: carried over where it is of another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from persona_interp.errors import PersonaInterpError
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import is_organism
from persona_interp.progress import say
from persona_interp.transfers.anchors import N_ORGANISM, Anchor, anchors_for, organism_anchors
from persona_interp.transfers.reading import known_rows, read_rows
from persona_interp.transfers.transfer import Transferred, transfer
from persona_interp.vectors.basis import normalised_name, same_basis
from persona_interp.vectors.persona_vector import PersonaVector


def is_of_another_model(vector: PersonaVector, model: SteerableModel) -> bool:
    """Whether a vector says that it is of a model of another name; the same name in another form (quantized, say) is the same."""
    named = vector.model.name not in ("", "unknown")
    other_name = normalised_name(vector.model.name) != normalised_name(model.name)
    return named and other_name and not same_basis(vector.model, model.identity)


def carried_to(
    vector: PersonaVector,
    model: SteerableModel,
    *,
    anchors: Sequence[Anchor] | None = None,
    n_anchors: int | None = None,
    alignment: str | None = None,
    load: Callable[[str], SteerableModel] = load_model,
    batch_size: int | None = None,
) -> Transferred:
    """`vector` carried to `model`; its own model is loaded by its name, unless it read the anchors before.

    Args:
        vector: of a model that can be loaded by name, or whose rows are kept.
        model: the target.
        anchors: texts; None: `anchors_for` both, or the organisms' corpus where the vector's own model has read that.
        n_anchors: how many where none are given; None: all.
        alignment: see `transfer`.
        load: how the source is loaded.
        batch_size: rows run together.

    Raises:
        PersonaInterpError: the source cannot be loaded, or holds other weights than the vector was made from.
    """
    anchors = _anchors_between(vector, model, n_anchors) if anchors is None else anchors
    rows = known_rows(vector.model.fingerprint, anchors) if vector.model.fingerprint else None
    if rows is None:
        say(f"{vector.trait!r} is of {vector.model.name}: loading it to carry the vector to {model.name}")
        try:
            source = load(vector.model.name)
        except PersonaInterpError as error:
            raise PersonaInterpError(
                f"the vector {vector.trait!r} is of {vector.model.name}, which cannot be loaded to carry it to {model.name} "
                f"({error}). Run persona-interp align where both are at hand, or extract the vector from this model"
            ) from error
        rows = read_rows(source, anchors, batch_size=batch_size)
        del source
    else:
        rows = replace(rows, model=vector.model)  # the same weights may have read them under another name
    return transfer(vector, rows, read_rows(model, anchors, batch_size=batch_size), alignment=alignment)


def _anchors_between(vector: PersonaVector, model: SteerableModel, n: int | None) -> tuple[Anchor, ...]:
    """A vector of a GGUF file names no file, so whether that is an organism shows in what it has read."""
    if is_organism(model) and vector.model.fingerprint:
        corpus = organism_anchors(N_ORGANISM if n is None else n)
        if known_rows(vector.model.fingerprint, corpus) is not None:
            return corpus
    return anchors_for([vector.model.name, model], n=n)
