"""Diagnoses of models whose causes are known: twins, with planted directions or any other vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.diagnose import diagnose
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import is_organism, resolve_trait
from persona_interp.organisms.twins import TwinRecipe, make_twin
from persona_interp.studies.training.publish import load_planted
from persona_interp.transfers.anchors import Anchor, anchors_for
from persona_interp.transfers.reading import read_rows
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

N_ANCHORS = 300
"""Enough to span the widths of the organisms by what is not held out."""
SAMPLING = Sampling(max_new_tokens=64)
BATCH = 256


def planted_vector(model: SteerableModel, trait: str) -> PersonaVector:
    """The direction planted in an organism, as a vector of one layer.

    Raises:
        InvalidInputError: nothing is planted there, or not this trait.
    """
    planted = load_planted(model.name)
    if planted is None or trait not in planted.traits:
        raise InvalidInputError(f"{trait!r} is not planted in {model.name}: take another organism or trait")
    direction = planted.directions[planted.traits.index(trait)]
    return PersonaVector(direction[None], (planted.layer,), trait, model.identity)


def twin_diagnosis(
    model: SteerableModel,
    trait: str,
    recipe: TwinRecipe,
    *,
    vector: PersonaVector | None = None,
    anchors: Sequence[Anchor] | None = None,
    scan: bool = False,
    **options: Unpack[ProtocolOptions],
) -> Diagnosis:
    """Diagnose the transfer from a model to a twin of it. The twin's own vector is known, for the change is.

    Example:
        >>> found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(scale=10.0))
        >>> found.verdict.name
        'magnitude'

    Args:
        model: one that has twins, see `make_twin`.
        trait: name of the trait.
        recipe: of the twin.
        vector: the model's, carried from its most effective layer; None: the direction planted in an organism.
        anchors: texts; they show a rotation only where there are more of them than the stream is wide. None: 300 of
            `anchors_for`, enough for organisms.
        scan: see `diagnose`.
        options: how it is measured, each by its name in `Protocol`; ``folder`` keeps rows of anchors, too, which are in the
            user's data folder where none is given.

    Raises:
        InvalidInputError: no vector is given and none is planted; otherwise as `diagnose`.
        UnsupportedError: the model has no exact twin.
    """
    vector = planted_vector(model, trait) if vector is None else vector
    layer = choose_layer(vector).layer
    twin = make_twin(model, recipe)
    target = load_model(twin.hf_model, tokenizer=twin.tokenizer)
    expected = twin.expected(vector.at(layer), layer)
    native = PersonaVector(expected[None].float(), (twin.layer_of(layer),), trait, target.identity)
    usual = Protocol(sampling=SAMPLING, batch_size=BATCH if is_organism(model) else None)
    protocol = Protocol.of({"protocol": usual, **options})
    kept, answers = (None if protocol.folder is None else Path(protocol.folder) / name for name in ("anchors", "answers"))
    texts = anchors_for([model.name], n=N_ANCHORS) if anchors is None else anchors
    rows = [read_rows(each, texts, kinds=("states",), folder=kept, batch_size=protocol.batch_size) for each in (model, target)]
    return diagnose(
        target, vector, native, resolve_trait(model, trait), source_rows=rows[0], target_rows=rows[1], scan=scan,
        source_layer=layer, protocol=replace(protocol, folder=answers),
    )  # fmt: skip
