"""A vector of whatever model, for the model at hand: carried over where it is of another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from persona_interp.errors import PersonaInterpError
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.transfers.anchors import Anchor, anchors_for
from persona_interp.transfers.carry import EFFECTS
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
    alignment: str = EFFECTS,
    load: Callable[[str], SteerableModel] = load_model,
    batch_size: int | None = None,
) -> Transferred:
    """`vector` carried to `model`; its own model is loaded by its name, unless it read the anchors before.

    Args:
        vector: of a model that can be loaded by name, or whose rows are kept.
        model: the target.
        anchors: texts; None: `anchors_for` both.
        alignment: see `transfer`.
        load: how the source is loaded.
        batch_size: rows run together.

    Raises:
        PersonaInterpError: the source cannot be loaded, or holds other weights than the vector was made from.
    """
    anchors = anchors_for([vector.model.name, model.name]) if anchors is None else anchors
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
    return transfer(vector, rows, read_rows(model, anchors, batch_size=batch_size), alignment=alignment)
