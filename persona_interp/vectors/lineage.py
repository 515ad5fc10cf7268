"""Lineage: which weights a vector was made from, and which copies of them (quantized, dequantised, finetuned) it still fits.

A vector fits weights in whose basis it is. Fingerprints tell the very same weights; for others the prints of both models are
compared (`models.residual_print`), which takes one short forward pass of the model at hand and none of the vector's own. Only
where a file records no print, being older or of another program, names are gone by, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona_interp.errors import FileFormatError, UnsupportedError
from persona_interp.models.names import architecture_of, canonical_architecture, hf_names, is_architecture, same_name
from persona_interp.models.residual_print import Likeness, ResidualPrint, likeness, residual_print
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.basis import covers_model, same_weights
from persona_interp.vectors.persona_vector import PersonaVector

KEY = "lineage"
"""Under which a vector's provenance records it."""
UNKNOWN = ("", "unknown")
"""Names of models that a file does not name."""
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Lineage:
    """What is recorded of the model a vector was made in, so that copies of it are known again.

    Attributes:
        names: what the model is called: as it was loaded, and by its own files.
        bases: models that its files say it was made from.
        architecture: in one form for llama.cpp and transformers.
        residuals: its print; None where nothing could be read.
    """

    names: tuple[str, ...]
    bases: tuple[str, ...]
    architecture: str
    residuals: ResidualPrint | None

    @classmethod
    def of(cls, model: SteerableModel) -> Lineage:
        """Read what is recorded; one short forward pass."""
        names, bases, architecture = _called(model)
        try:
            residuals = residual_print(model)
        except UnsupportedError:
            residuals = None
        return cls(names, bases, architecture, residuals)

    @classmethod
    def recorded_in(cls, vector: PersonaVector) -> Lineage | None:
        """What a vector records, or one of those it was combined from; None where none does."""
        for found in _recorded(vector.provenance):
            return cls.from_json(found)
        return None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format_version": _FORMAT_VERSION,
            "names": list(self.names),
            "bases": list(self.bases),
            "architecture": self.architecture,
            "residuals": None if self.residuals is None else self.residuals.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lineage:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: a field is missing or of the wrong type.
        """
        try:
            residuals = data["residuals"]
            return cls(
                tuple(str(name) for name in data["names"]),
                tuple(str(name) for name in data["bases"]),
                str(data["architecture"]),
                None if residuals is None else ResidualPrint.from_json(residuals),
            )
        except (KeyError, TypeError) as error:
            raise FileFormatError(f"what a vector records of its model is damaged ({error!r}): make the vector again") from error


@dataclass(frozen=True)
class Kinship:
    """Whether a vector can be used on a model as it is.

    Attributes:
        fits: None where the vector does not say whose it is: then only its shape is known.
        why: a predicate of the vector, to be shown.
        exact: the very weights it was made from.
        measured: the likeness of the two models, where it was measured.
        alike: both models have as many layers of one width, so that their likeness can be measured.
    """

    fits: bool | None
    why: str
    exact: bool = False
    measured: Likeness | None = None
    alike: bool = False


def kinship(vector: PersonaVector, model: SteerableModel) -> Kinship:
    """What is known of a vector and a model; the model reads eight short texts where a print is recorded to compare with.

    Raises:
        FileFormatError: what the vector records is damaged.
    """
    whose, identity = vector.model, model.identity
    names, bases, architecture = _called(model)
    hint = vector.provenance.get("model_hint")
    if isinstance(hint, str) and is_architecture(hint) and architecture and canonical_architecture(hint) != architecture:
        return Kinship(False, f"is of a model of architecture {hint!r}, and {identity.name} is of {architecture!r}")
    if same_weights(whose, identity):
        return Kinship(True, "was made in these weights", exact=True, alike=True)
    if whose.d_model != identity.d_model:
        return Kinship(False, f"is of {_whose(vector)} (width {whose.d_model}), and {identity.name} has width {identity.d_model}")
    if vector.layers[-1] >= identity.n_layers or (depth_known(vector) and whose.n_layers != identity.n_layers):
        depth = f"{whose.n_layers} layers, here up to layer {vector.layers[-1]}"
        return Kinship(False, f"is of {_whose(vector)} ({depth}), and {identity.name} has {identity.n_layers}")
    recorded = Lineage.recorded_in(vector)
    if recorded is not None and recorded.residuals is not None:
        own = residual_print(model)
        found = likeness(recorded.residuals.values, own.values)
        return Kinship(found.kin, measured_words(vector, model, found), measured=found, alike=True)
    if whose.name in UNKNOWN:
        return Kinship(None, "does not say whose it is; it fits by shape only")
    if any(same_name(whose.name, name, form=False) for name in names):
        if not whose.fingerprint:
            return Kinship(True, f"is of {whose.name} and does not say from which weights: they go by that name", alike=True)
        why = f"was made in {whose.name}, not in these weights, but they go by that name (not measured)"
        return Kinship(True, why, alike=True)
    made = f", although that says to be made from {whose.name}" if any(same_name(whose.name, name) for name in bases) else ""
    return Kinship(False, f"is of {whose.name}, not of {identity.name}{made}", alike=True)


def measured_words(vector: PersonaVector, model: SteerableModel, found: Likeness) -> str:
    """What a measurement says of a vector."""
    if found.kin:
        return f"was made in {_whose(vector)}, not in these weights, but in their basis (residuals {found})"
    return f"is of {_whose(vector)}, another model than {model.name} (residuals {found})"


def depth_known(vector: PersonaVector) -> bool:
    """Whether the number of layers of the vector's model is known, and not only the last layer that the file has."""
    return bool(vector.model.fingerprint) or covers_model(vector.provenance)


def _whose(vector: PersonaVector) -> str:
    return "a model that it does not name" if vector.model.name in UNKNOWN else vector.model.name


def _called(model: SteerableModel) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Names, names of models it was made from, and architecture."""
    config: Any = model.config
    own, bases = getattr(config, "called", None) or hf_names(config)
    return tuple(dict.fromkeys((model.name, *own))), tuple(bases), architecture_of(config)


def _recorded(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = provenance.get(KEY)
    if isinstance(found, Mapping):
        yield found
    derived = provenance.get("derived")
    for step in derived if isinstance(derived, Sequence) else ():
        operands = step.get("operands") if isinstance(step, Mapping) else None
        for operand in operands if isinstance(operands, list) else ():
            if isinstance(operand, Mapping) and isinstance(operand.get("provenance"), Mapping):
                yield from _recorded(operand["provenance"])
