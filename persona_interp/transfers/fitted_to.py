"""A vector of whatever model, made fit for the model at hand: used as it is where it is in its basis, and else carried over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from persona_interp.errors import IncompatibleError, InvalidInputError, PersonaInterpError, unknown_name
from persona_interp.models.registry import load_model
from persona_interp.models.residual_print import Likeness, likeness, print_layers, residual_print
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.anchors import Anchor, anchors_for, kind_anchors
from persona_interp.transfers.reading import known_rows, read_rows
from persona_interp.transfers.report import TransferReport
from persona_interp.transfers.transfer import transfer as carry_between
from persona_interp.vectors.basis import same_weights
from persona_interp.vectors.lineage import KEY, UNKNOWN, Kinship, Lineage, kinship, measured_words
from persona_interp.vectors.persona_vector import PersonaVector

AUTO, NEVER, ALWAYS = WHEN = ("auto", "never", "always")
"""When a vector is carried over: ``auto`` where it is of a model in another basis, ``never``, or ``always``."""
Opener = Callable[[str], AbstractContextManager[SteerableModel]]
"""Opens a model by its name, for a ``with`` block."""


@dataclass(frozen=True)
class Fitted:
    """A vector that can be used on the model at hand.

    Attributes:
        vector: in the model's basis, as far as is known.
        decision: what was decided and why, a predicate of the vector, to be shown; empty for a vector of the very model.
        report: of the transfer, where it was carried over.
    """

    vector: PersonaVector
    decision: str = ""
    report: TransferReport | None = None

    @property
    def layer(self) -> int | None:
        """The layer a carried vector is meant for; None where it was not carried."""
        return None if self.report is None else self.report.target_layer


def fitted_to(
    vector: PersonaVector,
    model: SteerableModel,
    *,
    transfer: str = AUTO,
    anchors: Sequence[Anchor] | None = None,
    n_anchors: int | None = None,
    alignment: str | None = None,
    load: Opener = load_model,
    batch_size: int | None = None,
) -> Fitted:
    """`vector` for `model`: the same directions where `model` is a copy of the vector's own (`kinship`), else carried to it.

    Copies are quantized or dequantised weights and finetunes; whether a model is one is measured, where the vector's file records
    what it takes or the vector's own model can be loaded. To carry it over, that model reads anchors, unless it has before.

    Example:
        >>> found = fitted_to(PersonaVector.load("silly.json"), model)
        >>> print(found.decision)
        >>> model.generate(questions, graph=found.vector.graph(0.5, layers=[choose_layer(found.vector).layer]))

    Args:
        vector: of any model.
        model: to be steered or read.
        transfer: one of `WHEN`.
        anchors: texts to carry it by; None: `anchors_for` both, or those of its kind where its own model has read them.
        n_anchors: how many where none are given; None: all.
        alignment: see `transfer`.
        load: opens the vector's own model by its name; closed again as soon as it has been read.
        batch_size: rows run together.

    Raises:
        UnknownNameError: `transfer` is none of `WHEN`.
        IncompatibleError: it does not fit, and cannot be carried; says why and what to do.
        InvalidInputError: ``always``, for a vector of these very weights.
        PersonaInterpError: its own model cannot be loaded, or holds other weights than it was made from.
    """
    if transfer not in WHEN:
        raise unknown_name("choice of transfer", transfer, WHEN)
    kin = kinship(vector, model)
    if transfer == NEVER:
        vector.check_fits(model.identity)
        return Fitted(vector, "" if kin.exact else f"{kin.why}; used as it is, because transfer is off")
    if transfer == AUTO and kin.fits is not False:
        return _as_it_is(vector, model, kin)
    if kin.exact:
        raise InvalidInputError(
            f"the vector {vector.trait!r} was made in these very weights ({model.name}): there is nowhere to carry it from; "
            "leave --transfer always (transfer='always') out"
        )
    if vector.model.name in UNKNOWN or same_weights(vector.model, model.identity):
        raise IncompatibleError(
            f"the vector {vector.trait!r} {kin.why}, and as it names no model it cannot be carried to {model.name}: say whose it "
            "is with import --model, or extract one from this model"
        )
    texts = _anchors_between(vector, model, n_anchors) if anchors is None else anchors
    unsure = transfer == AUTO and kin.alike and kin.measured is None
    return _carried(vector, model, kin, texts, unsure=unsure, alignment=alignment, load=load, batch_size=batch_size)


def copy_for(vector: PersonaVector, model: SteerableModel) -> Fitted | None:
    """`vector` for `model` where that is a copy of the vector's own model, or this itself; None where it is not, or nobody knows.

    Raises:
        FileFormatError: what the vector records is damaged.
    """
    kin = kinship(vector, model)
    return _as_it_is(vector, model, kin) if kin.fits else None


def _as_it_is(vector: PersonaVector, model: SteerableModel, kin: Kinship) -> Fitted:
    """Without a change of its directions; what is of kin is called by the name of the model at hand from here on."""
    vector.check_fits(model.identity)
    if kin.exact or kin.fits is None:
        return Fitted(vector, "" if kin.exact else kin.why)
    noted = {**vector.provenance, "fitted": {"from": vector.model.to_json(), "why": kin.why}}
    return Fitted(replace(vector, model=model.identity, provenance=noted), f"{kin.why}: used as it is")


def _carried(
    vector: PersonaVector,
    model: SteerableModel,
    kin: Kinship,
    anchors: Sequence[Anchor],
    *,
    unsure: bool,
    alignment: str | None,
    load: Opener,
    batch_size: int | None,
) -> Fitted:
    """By anchors; but as it is, where it was unsure and turns out on the way that the two models share a basis."""
    ours = known_rows(vector.model.fingerprint, anchors) if vector.model.fingerprint else None
    if ours is None:
        say(f"{vector.trait!r} {kin.why}: loading {vector.model.name} to carry the vector to {model.name}")
        with _opened(vector, model, kin, load) as source:
            if unsure and (found := _likeness(source, model)) and found.kin:
                return _as_it_is(vector, model, _measured(vector, model, found))
            ours = read_rows(source, anchors, batch_size=batch_size)
    ours = replace(ours, model=vector.model)  # the same weights may have read them under another name
    theirs = read_rows(model, anchors, batch_size=batch_size)
    if unsure and (found := _likeness_of_rows(ours, theirs)) and found.kin:
        return _as_it_is(vector, model, _measured(vector, model, found))
    carried = carry_between(vector, ours, theirs, alignment=alignment)
    recorded = {**carried.vector.provenance, KEY: Lineage.of(model).to_json()}
    warnings = [f"warning: {text}" for text in carried.report.warnings]
    decision = "; ".join([f"{kin.why}: carried over", carried.report.reason(), *warnings])
    return Fitted(replace(carried.vector, provenance=recorded), decision, carried.report)


@contextmanager
def _opened(vector: PersonaVector, model: SteerableModel, kin: Kinship, load: Opener) -> Iterator[SteerableModel]:
    """The vector's own model, for as long as it is read.

    Raises:
        PersonaInterpError: it cannot be loaded.
        IncompatibleError: what is loaded by its name holds other weights.
    """
    try:
        entered = load(vector.model.name)
    except PersonaInterpError as error:
        raise PersonaInterpError(
            f"the vector {vector.trait!r} {kin.why}; {vector.model.name} cannot be loaded to carry it to {model.name} ({error}). "
            "Run persona-interp align where both are at hand, extract the vector from this model, or use it as it is with "
            "--transfer never (transfer='never')"
        ) from error
    with entered as source:
        found = kinship(vector, source)
        if vector.model.fingerprint and not found.exact and not (found.measured and found.measured.kin):
            raise IncompatibleError(
                f"the vector {vector.trait!r} is of {vector.model.name}, but what is loaded by that name holds other weights: "
                "give a vector of those, or extract one from this model"
            )
        yield source


def _likeness(source: SteerableModel, model: SteerableModel) -> Likeness | None:
    if (source.n_layers, source.d_model) != (model.n_layers, model.d_model):
        return None
    return likeness(residual_print(source).values, residual_print(model).values)


def _likeness_of_rows(ours: AnchorRows, theirs: AnchorRows) -> Likeness | None:
    if (ours.n_layers, ours.model.d_model) != (theirs.n_layers, theirs.model.d_model):
        return None
    layers = print_layers(theirs.n_layers)
    return likeness(*([rows.rows("states", layer) for layer in layers] for rows in (ours, theirs)))


def _measured(vector: PersonaVector, model: SteerableModel, found: Likeness) -> Kinship:
    return Kinship(found.kin, measured_words(vector, model, found), measured=found, alike=True)


def _anchors_between(vector: PersonaVector, model: SteerableModel, n: int | None) -> tuple[Anchor, ...]:
    """A vector of a GGUF file names no file, so what kind of model that is shows in what it has read."""
    if (fingerprint := vector.model.fingerprint) and (own := kind_anchors(model, n)) and known_rows(fingerprint, own) is not None:
        return own
    return anchors_for([vector.model.name, model], n=n)
