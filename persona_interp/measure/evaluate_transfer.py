"""`evaluate_transfer`: how much of the target's own vector's effect does a vector from elsewhere have?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Required, Unpack

import torch

from persona_interp.alignment.methods import EFFECTS
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.graph import WritePositions
from persona_interp.measure.conditions import Condition, baseline, prompted, steered
from persona_interp.measure.controls import random_like
from persona_interp.measure.protocol import MeasuringOptions, Protocol, checked_coefficients, split
from persona_interp.measure.run import points_of
from persona_interp.measure.transfer_evaluation import CarriedCurve, TransferEvaluation
from persona_interp.models.sampling import fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.transfer import Transferred, transfer
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

N_RANDOM = 4
N_SHUFFLED = 4


class CarryingOptions(MeasuringOptions, total=False):
    """The attributes of `Protocol` and of `Carrying`, as functions take them by name."""

    source_rows: Required[AnchorRows]
    target_rows: Required[AnchorRows]
    source_layer: int | None
    native_layer: int | None
    positions: WritePositions


class TransferOptions(CarryingOptions, total=False):
    """Those of `Compared` too."""

    methods: Sequence[str]
    other: PersonaVector | None
    controls: bool


@dataclass(frozen=True, eq=False)
class Carrying:
    """What a vector is carried by, and where it enters.

    Attributes:
        source_rows: the source's anchors, see `read_rows`.
        target_rows: the target's, of the same texts.
        source_layer: where the direction is taken from; None: the vector's most effective layer.
        native_layer: where the native vector steers; None: likewise.
        positions: tokens steered.
    """

    source_rows: AnchorRows
    target_rows: AnchorRows
    source_layer: int | None = None
    native_layer: int | None = None
    positions: WritePositions = "all"

    def native_at(self, native: PersonaVector, target: SteerableModel) -> int:
        """Where the native vector steers."""
        return choose_layer(native, target.first_steerable_layer).layer if self.native_layer is None else self.native_layer

    def record(self, vector: PersonaVector, target: SteerableModel) -> dict[str, Any]:
        """What provenance says of it."""
        return {
            "source": vector.model.to_json(),
            "target": target.identity.to_json(),
            "anchors": self.source_rows.anchors,
            "positions": self.positions,
        }


@dataclass(frozen=True, eq=False)
class Compared:
    """Which alignments are tried, and what with.

    Attributes:
        methods: alignments; controls are made for the first.
        other: the source's vector of another trait, for the control of that name; without it that control is missing.
        controls: whether to make them; without, the verdict rests on the interval alone.

    Raises:
        InvalidInputError: there is no method.
    """

    methods: Sequence[str] = (EFFECTS,)
    other: PersonaVector | None = None
    controls: bool = True

    def __post_init__(self) -> None:
        if not self.methods:
            raise InvalidInputError("no alignment method was given: name at least one, such as effects")


def evaluate_transfer(
    target: SteerableModel,
    vector: PersonaVector,
    native: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | None = None,
    num_prompts: int | None = None,
    *,
    ratios: Sequence[float] | None = None,
    **options: Unpack[TransferOptions],
) -> TransferEvaluation:
    """Steer the target with a carried vector, with its own and with controls, at equal perturbation ratios on the same questions.

    Only the target is needed in memory: what the source made of the anchors comes as rows. The native vector and the answers
    enter after everything is fitted. All answers come from one batched generation.

    Example:
        >>> rows = [read_rows(model, organism_anchors()) for model in (qwen2, llama)]
        >>> found = evaluate_transfer(
        ...     llama, vector, native, "silly", [-0.5, 0.5], source_rows=rows[0], target_rows=rows[1]
        ... )
        >>> print(found.verdict)

    Args:
        target: steered.
        vector: of the source.
        native: the target's own.
        trait: what to look for, or its name (`resolve_trait`).
        coefficients: multiply the native vector as it is; the others are brought to the same perturbation ratio.
        num_prompts: how many of the evaluation questions are asked; all if None.
        ratios: in place of coefficients: how large what is added is, as a share of the mean residual norm where it is added.
        options: ``source_rows`` and ``target_rows``, without which nothing can be carried; the rest of `Carrying` and of
            `Compared` (``methods``, ``other``, ``controls``, ``source_layer``, ``native_layer``, ``positions``); and how it is
            measured, each by its name in `Protocol`.

    Raises:
        InvalidInputError: unusable coefficients, questions or methods.
        IncompatibleError: `native` is not of the target, or `vector` not of the source.
    """
    trait = resolve_trait(target, trait)
    protocol, carrying, compared = split({"num_prompts": num_prompts, **options}, Protocol, Carrying, Compared)
    if not native.same_basis(target.identity):
        raise IncompatibleError(f"the native vector is of {native.model.name}, not of {target.name}: extract one from the target")
    asked = protocol.asked(target, trait)
    at = carrying.native_at(native, target)
    own = replace(native.select([at]), statistics={"resid_norm": (carrying.target_rows.resid_norms[at],)})
    doses = [dose for dose in checked_coefficients(own.doses(coefficients, ratios)) if dose != 0]
    carried = {name: transfer(vector, alignment=name, **_setting(carrying)) for name in dict.fromkeys(compared.methods)}
    drawn = _controls(vector, compared.other, carried, own, carrying, protocol.seed) if compared.controls else {}
    points = points_of(target, asked, _arms(trait, own, carried, drawn, doses, carrying))
    return TransferEvaluation(
        trait=trait.name,
        source=vector.model.name,
        target=target.name,
        judge=asked.judge.name,
        questions=asked.questions,
        samples=asked.samples,
        native_layer=at,
        baseline=points["baseline"][0],
        native=points["native"],
        carried=tuple(
            CarriedCurve(name, found.report.to_json(), points[f"carried {name}"], _cosine(found, native))
            for name, found in carried.items()
        ),
        controls={
            name: tuple(points[f"control {name} {number}"] for number in range(len(vectors))) for name, vectors in drawn.items()
        },
        prompted=points["prompted"][0],
        prompted_against=points["prompted"][1],
        provenance=provenance(**carrying.record(vector, target), **asked.record),
    )


def _setting(carrying: Carrying) -> dict[str, Any]:
    return {"source": carrying.source_rows, "target": carrying.target_rows, "source_layer": carrying.source_layer}


def _arms(
    trait: Trait,
    own: PersonaVector,
    carried: Mapping[str, Transferred],
    drawn: Mapping[str, Sequence[PersonaVector]],
    doses: Sequence[float],
    carrying: Carrying,
) -> dict[str, Sequence[Condition]]:
    """All conditions, by what they are for."""

    def curve(name: str, vector: PersonaVector) -> list[Condition]:
        return steered(name, Steering(vector, positions=carrying.positions), doses)

    native = Steering(own)
    return {
        "baseline": [baseline(native)],
        "native": curve("native", own),
        "prompted": prompted(trait, native),
        **{f"carried {name}": curve(name, _matched(found, own)) for name, found in carried.items()},
        **{
            f"control {name} {number}": curve(name, each)
            for name, vectors in drawn.items()
            for number, each in enumerate(vectors)
        },
    }


def _controls(
    vector: PersonaVector,
    other: PersonaVector | None,
    carried: Mapping[str, Transferred],
    own: PersonaVector,
    carrying: Carrying,
    seed: int,
) -> dict[str, list[PersonaVector]]:
    """Of the first method: vectors of one layer each, as long as the native one is at the same coefficient."""
    name, main = next(iter(carried.items()))
    options = {"alignment": name, **_setting(carrying)}
    at = main.report.target_layer
    steered = _matched(main, own)
    found = {
        "random": [random_like(steered, number, seed) for number in range(1, N_RANDOM + 1)],
        "shuffled": [
            _matched(transfer(vector, layer_map=at, shuffled=fitting_seed(seed + number), **options), own)
            for number in range(N_SHUFFLED)
        ],
        "equal depth": [_matched(transfer(vector, layer_map="depth", **options), own)],
    }
    if "naive" not in carried and all("states" in rows.kinds for rows in (carrying.source_rows, carrying.target_rows)):
        found["naive"] = [_matched(transfer(vector, layer_map=at, **{**options, "alignment": "naive"}), own)]
    if other is not None:
        elsewhere = {**options, "source_layer": None}
        found["wrong trait"] = [_matched(transfer(other, **elsewhere), own)]
    return found


def _matched(carried: Transferred, own: PersonaVector) -> PersonaVector:
    """The carried vector at its layer, as long against the mean residual there as the native one is at its own."""
    vector = carried.vector.select([carried.report.target_layer])
    (ratio,), (wanted,) = vector.listed("norm_ratio"), own.listed("norm_ratio")
    if not ratio or not wanted:
        raise InvalidInputError(f"a vector of {vector.trait!r} is zero: there is nothing to steer with")
    return vector * (wanted / ratio)


def _cosine(carried: Transferred, native: PersonaVector) -> float | None:
    at = carried.report.target_layer
    if at not in native.layers:
        return None
    return float(torch.cosine_similarity(carried.vector.at(at).double(), native.at(at).double(), dim=0))
