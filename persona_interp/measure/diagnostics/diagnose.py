"""`diagnose`: steer with every subset of the three fixes, on the same questions, and say which causes there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.measure.conditions import Condition, baseline, steered
from persona_interp.measure.diagnostics.basis import basis_measurements
from persona_interp.measure.diagnostics.causes import subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.fixes import Fixes, Push, fixes
from persona_interp.measure.diagnostics.layer_correspondence import layer_correspondence
from persona_interp.measure.diagnostics.magnitude import magnitude_measurements
from persona_interp.measure.evaluate_transfer import Carrying, CarryingOptions
from persona_interp.measure.protocol import Protocol, checked_coefficients, split
from persona_interp.measure.run import points_of
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.transfers.carry import check_pair
from persona_interp.vectors.basis import same_basis
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

RATIOS = (-0.4, 0.4)
"""Perturbation ratios of the source's vector that are tried where no coefficients are given."""


class DiagnosisOptions(CarryingOptions, total=False):
    """The attributes of `Protocol`, of `Carrying`, and `scan`."""

    scan: bool


@dataclass(frozen=True)
class _Scan:
    scan: bool = False


def diagnose(
    target: SteerableModel,
    vector: PersonaVector,
    native: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | None = None,
    num_prompts: int | None = None,
    *,
    ratios: Sequence[float] | None = None,
    **options: Unpack[DiagnosisOptions],
) -> Diagnosis:
    """Why the source's vector fails in the target: its length, its basis, its layer, several of them, or none.

    Only the target is needed in memory. Fixes come from unlabelled anchors alone; the target's own vector says how much there is
    to recover. All answers come from one batched generation.

    Example:
        >>> rows = [read_rows(model, organism_anchors()) for model in (qwen2, llama)]
        >>> found = diagnose(llama, vector, native, "silly", source_rows=rows[0], target_rows=rows[1])
        >>> print(found.verdict.name, found.verdict.reason, found.attribution)

    Args:
        target: steered.
        vector: of the source.
        native: the target's own.
        trait: what to look for, or its name (`resolve_trait`).
        coefficients: multiply the source's vector as it is.
        num_prompts: how many of the evaluation questions are asked; all if None.
        ratios: in place of coefficients, perturbation ratios in the source: -0.4 and 0.4 if neither is given.
        options: ``source_rows`` and ``target_rows``, without which nothing can be carried (effects are needed only where the two
            share no stream), and the rest of `Carrying`: ``source_layer``, ``native_layer``, ``positions``; ``scan``: also steer
            at every layer of the target with the fixed push; and how it is measured, each by its name in `Protocol`.

    Raises:
        InvalidInputError: unusable coefficients, questions or vectors.
        IncompatibleError: `native` is not of the target, `vector` not of the source, or the two read different anchors.
    """
    trait = resolve_trait(target, trait)
    protocol, carrying, scanned = split({"num_prompts": num_prompts, **options}, Protocol, Carrying, _Scan)
    _check(target, vector, native, carrying)
    source_rows, target_rows = carrying.source_rows, carrying.target_rows
    at = choose_layer(vector).layer if carrying.source_layer is None else carrying.source_layer
    to = carrying.native_at(native, target)
    layers = layer_correspondence(vector.at(at), source_rows, target_rows, at)
    found = fixes(vector.at(at), source_rows, target_rows, layers)
    ratio = found.naive.norm / source_rows.resid_norms[at]
    if coefficients is not None and ratios is not None:
        raise InvalidInputError("coefficients and ratios were both given: leave one out")
    doses = [wanted / ratio for wanted in ratios or RATIOS] if coefficients is None else coefficients
    doses = [dose for dose in checked_coefficients(doses) if dose != 0]
    asked = protocol.asked(target, trait)
    own = Push(to, native.at(to).double() / float(native.at(to).double().norm()), ratio * target_rows.resid_norms[to])
    tried = range(target.first_steerable_layer, target_rows.n_layers) if scanned.scan else ()
    pushes = {"native": own, **_pushes(found, tried, carrying)}
    steerings = {name: Steering(_vector(push, carrying, trait), positions=carrying.positions) for name, push in pushes.items()}
    arms: dict[Any, list[Condition]] = {"baseline": [baseline(steerings["native"])]}
    arms |= {name: steered(str(name), each, doses) for name, each in steerings.items()}
    points = points_of(target, asked, arms)
    return Diagnosis(
        trait=trait.name,
        source=vector.model.name,
        target=target.name,
        judge=asked.judge.name,
        questions=asked.questions,
        samples=asked.samples,
        coefficients=tuple(doses),
        baseline=points["baseline"][0],
        native=points["native"],
        arms={fixed: points[fixed] for fixed in subsets()},
        scan={layer: points[layer] for layer in tried},
        measurements={
            "magnitude": magnitude_measurements(found, layers, source_rows, target_rows, vector, native, to),
            "basis": basis_measurements(found, layers, source_rows, target_rows, native.at(to)),
            "layers": {**layers.to_json(), "native_layer": to},
        },
        by_states=points.get("by states", ()),
        provenance=provenance(**carrying.record(vector, target), **asked.record),
    )


def _check(target: SteerableModel, vector: PersonaVector, native: PersonaVector, carrying: Carrying) -> None:
    source, own = carrying.source_rows.model, carrying.target_rows.model
    check_pair(carrying.source_rows, carrying.target_rows, "procrustes")
    if not same_basis(vector.model, source):
        raise IncompatibleError(f"the vector is of {vector.model.name}, the source's rows of {source.name}: give its own")
    for what, model in (("native vector", native.model), ("rows of the target", own)):
        if not same_basis(model, target.identity):
            raise IncompatibleError(f"the {what} is of {model.name}, not of {target.name}: make it from the target")


def _pushes(found: Fixes, scanned: Sequence[int], carrying: Carrying) -> dict[Any, Push]:
    """One a subset of fixes, the one by states where there is one, and the fixed one at each layer that is scanned."""
    pushes: dict[Any, Push] = {fixed: found.push(fixed) for fixed in subsets()}
    if found.by_states is not None:
        pushes["by states"] = replace(found.full, unit=found.by_states)
    norms = carrying.target_rows.resid_norms
    of_norm = found.full.norm / norms[found.full.layer]
    return pushes | {layer: replace(found.full, layer=layer, norm=of_norm * norms[layer]) for layer in scanned}


def _vector(push: Push, carrying: Carrying, trait: Trait) -> PersonaVector:
    rows = carrying.target_rows
    return PersonaVector(
        push.direction[None].float(),
        (push.layer,),
        trait.name,
        rows.model,
        statistics={"resid_norm": (rows.resid_norms[push.layer],)},
    )
