"""Whose basis a vector is in: when two models share one, and when a vector can be added to a model at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from persona_interp.errors import IncompatibleError
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.names import same_name
from persona_interp.vectors.validation import layer_spans


@runtime_checkable
class HasIdentity(Protocol):
    """Anything that says which model it is, such as a SteerableModel."""

    @property
    def identity(self) -> ModelIdentity:
        """Name, revision, fingerprint and shape."""
        ...


def identity_of(model: ModelIdentity | HasIdentity) -> ModelIdentity:
    """The identity itself, whichever was given."""
    return model if isinstance(model, ModelIdentity) else model.identity


def same_basis(first: ModelIdentity, second: ModelIdentity) -> bool:
    """Whether both are the same weights.

    Fingerprints decide where both are known. Files of other programs carry none; there the name decides (`same_name`).
    """
    if first.fingerprint and second.fingerprint:
        return same_weights(first, second)
    return same_name(first.name, second.name) and first.d_model == second.d_model


def same_weights(first: ModelIdentity, second: ModelIdentity) -> bool:
    """Whether fingerprints say so: of the weights, or of the GGUF file they come from, whichever engine runs it."""
    if first.fingerprint and first.fingerprint == second.fingerprint:
        return True
    files = {getattr(model, "weights_file", None) for model in (first, second)}
    return len(files) == 1 and None not in files


def label(model: ModelIdentity) -> str:
    """A model's name, with the start of its fingerprint where that is known: two models may go by one name."""
    return f"{model.name} ({model.fingerprint[:12]})" if model.fingerprint else model.name


READ_FROM_PT = "a .pt tensor"


def covers_model(provenance: Mapping[str, Any]) -> bool:
    """Whether a vector came from a file with a row for every layer, so that its model has as many layers as the file says."""
    return provenance.get("read_from") == READ_FROM_PT


Named: TypeAlias = tuple[str, ModelIdentity, Sequence[int]]
"""A vector's trait, model and layers."""


def check_combinable(one: Named, other: Named) -> None:
    """Refuse to add or subtract vectors of different bases or at different layers.

    Raises:
        IncompatibleError: names both vectors, both models and the remedy.
    """
    (trait, model, layers), (other_trait, other_model, other_layers) = one, other
    if not same_basis(model, other_model):
        raise IncompatibleError(
            f"cannot combine {trait!r} of {label(model)} with {other_trait!r} of {label(other_model)}: "
            "their residual streams have different bases. Transfer one of them to the other's model first"
        )
    if tuple(layers) != tuple(other_layers):
        raise IncompatibleError(
            f"cannot combine {trait!r} of {model.name} at layers {layer_spans(layers)} with {other_trait!r} "
            f"of {other_model.name} at layers {layer_spans(other_layers)}: bring both to the same layers with select() first"
        )


def check_fits(trait: str, own: ModelIdentity, layers: Sequence[int], other: ModelIdentity, *, whole: bool = False) -> None:
    """Refuse to add a vector of model `own` to model `other` where its shape forbids it.

    Args:
        trait: of the vector.
        own: the model it is of.
        layers: those it has.
        other: the model it is to be added to.
        whole: it has a direction for every layer of its model, so that `other` must have as many.

    Raises:
        IncompatibleError: the width or, with `whole`, the depth differs, or `other` lacks a layer. Names both and the remedy.
    """
    remedy = f"Extract {trait!r} from {other.name}, or transfer this vector to it"
    if own.d_model != other.d_model:
        raise IncompatibleError(
            f"the vector {trait!r} is of {own.name} (width {own.d_model}) and does not fit {other.name} "
            f"(width {other.d_model}). {remedy}"
        )
    if missing := [layer for layer in layers if layer >= other.n_layers]:
        raise IncompatibleError(
            f"the vector {trait!r} of {own.name} has layers {layer_spans(missing)}, which {other.name} does not have "
            f"(its layers are 0 to {other.n_layers - 1}). {remedy}, or take some of its layers with select()"
        )
    if whole and own.n_layers != other.n_layers:
        raise IncompatibleError(
            f"the vector {trait!r} of {own.name} has a row for each of {own.n_layers} layers behind one for the embeddings, and "
            f"{other.name} has {other.n_layers} layers: every row would be used at the wrong one. {remedy}; a .pt file without a "
            "row for the embeddings needs one of zeros put first"
        )
