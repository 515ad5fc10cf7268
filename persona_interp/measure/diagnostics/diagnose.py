"""`diagnose`: steer with every subset of the three fixes, on the same questions, and say which causes there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_interp.errors import IncompatibleError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.arms import Arm, Asked, Positions, steered_arms
from persona_interp.measure.diagnostics.basis import basis_measurements
from persona_interp.measure.diagnostics.causes import subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.fixes import Push, fixes
from persona_interp.measure.diagnostics.layer_correspondence import layer_correspondence
from persona_interp.measure.diagnostics.magnitude import magnitude_measurements
from persona_interp.measure.dose import DosePoint, dose_point
from persona_interp.measure.evaluate import asked_questions, checked_coefficients
from persona_interp.measure.kept_work import KeptWork
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.carry import check_pair
from persona_interp.vectors.basis import same_basis
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

RATIOS = (-0.4, 0.4)
"""Perturbation ratios of the source's vector that are tried where no coefficients are given."""


def diagnose(
    target: SteerableModel,
    vector: PersonaVector,
    native: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | None = None,
    num_prompts: int | None = None,
    *,
    source_rows: AnchorRows,
    target_rows: AnchorRows,
    scan: bool = False,
    judge: str | Judge | None = "auto",
    source_layer: int | None = None,
    native_layer: int | None = None,
    positions: Positions = "all",
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
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
        coefficients: multiply the source's vector as it is; None: perturbation ratios -0.4 and 0.4 in the source.
        num_prompts: how many of the evaluation questions are asked; all if None.
        source_rows: the source's anchors, see `read_rows`; effects are needed only where the two share no stream.
        target_rows: the target's, of the same texts.
        scan: also steer at every layer of the target with the fixed push.
        judge: a judge or its name (`load_judge`).
        source_layer: where the direction is taken from; None: the vector's most effective layer.
        native_layer: where the native vector steers; None: likewise.
        positions: tokens steered.
        samples: answers to each question under each condition.
        sampling: how to draw answers.
        seed: of answers.
        folder: keeps answers and scores, so that work cut short goes on.
        batch_size: rows run together.

    Raises:
        InvalidInputError: unusable coefficients, questions or vectors.
        IncompatibleError: `native` is not of the target, `vector` not of the source, or the two read different anchors.
    """
    trait = resolve_trait(target, trait)
    _check(target, vector, native, source_rows, target_rows)
    at = choose_layer(vector).layer if source_layer is None else source_layer
    to = choose_layer(native, target.first_steerable_layer).layer if native_layer is None else native_layer
    direction = vector.at(at)
    layers = layer_correspondence(direction, source_rows, target_rows, at)
    found = fixes(direction, source_rows, target_rows, layers)
    ratio = found.naive.norm / source_rows.resid_norms[at]
    doses = [wanted / ratio for wanted in RATIOS] if coefficients is None else coefficients
    doses = [dose for dose in checked_coefficients(doses, samples) if dose != 0]
    asked = Asked(asked_questions(trait, None, num_prompts), samples, seed)
    scorer = load_judge(judge, target, trait=trait)
    own_norm = float(native.at(to).double().norm())
    own = Push(to, native.at(to).double() / own_norm, ratio * target_rows.resid_norms[to])
    pushes: dict[Any, Push] = {"native": own, **{fixed: found.push(fixed) for fixed in subsets()}}
    if found.by_states is not None:
        pushes["by states"] = replace(found.full, unit=found.by_states)
    scanned = range(target.first_steerable_layer, target_rows.n_layers) if scan else ()
    if scan:
        of_norm = found.full.norm / target_rows.resid_norms[layers.matched]
        for layer in scanned:
            pushes[layer] = replace(found.full, layer=layer, norm=of_norm * target_rows.resid_norms[layer])
    with KeptWork(folder) as work:
        points = _points(work, target, target_rows, pushes, doses, asked, scorer, trait, positions, sampling, batch_size)
    return Diagnosis(
        trait=trait.name,
        source=vector.model.name,
        target=target.name,
        judge=scorer.name,
        questions=asked.questions,
        samples=samples,
        coefficients=tuple(doses),
        baseline=points["baseline"][0],
        native=points["native"],
        arms={fixed: points[fixed] for fixed in subsets()},
        scan={layer: points[layer] for layer in scanned},
        measurements={
            "magnitude": magnitude_measurements(found, layers, source_rows, target_rows, vector, native, to),
            "basis": basis_measurements(found, layers, source_rows, target_rows, native.at(to)),
            "layers": {**layers.to_json(), "native_layer": to},
        },
        by_states=points.get("by states", ()),
        provenance=provenance(
            source=vector.model.to_json(),
            target=target.identity.to_json(),
            anchors=source_rows.anchors,
            seed=seed,
            sampling=(sampling or Sampling()).to_json(),
            positions=positions,
        ),
    )


def _check(
    target: SteerableModel, vector: PersonaVector, native: PersonaVector, source_rows: AnchorRows, target_rows: AnchorRows
) -> None:
    check_pair(source_rows, target_rows, "procrustes")
    if not same_basis(vector.model, source_rows.model):
        raise IncompatibleError(
            f"the vector is of {vector.model.name}, the source's rows of {source_rows.model.name}: give its own"
        )
    for what, model in (("native vector", native.model), ("rows of the target", target_rows.model)):
        if not same_basis(model, target.identity):
            raise IncompatibleError(f"the {what} is of {model.name}, not of {target.name}: make it from the target")


def _points(
    work: KeptWork,
    model: SteerableModel,
    rows: AnchorRows,
    pushes: Mapping[Any, Push],
    doses: Sequence[float],
    asked: Asked,
    judge: Judge,
    trait: Trait,
    positions: Positions,
    sampling: Sampling | None,
    batch_size: int | None,
) -> dict[Any, tuple[DosePoint, ...]]:
    """Points of every push, and of the unsteered target; pushes that are equal are generated once."""
    vectors = {name: _vector(push, rows, trait) for name, push in pushes.items()}
    arms = {"baseline": [Arm("baseline")], **{name: steered_arms(str(name), each, doses) for name, each in vectors.items()}}
    listed = [(name, arm) for name, each in arms.items() for arm in each]
    options = {"positions": positions, "sampling": sampling or Sampling(), "batch_size": batch_size}
    texts = work.answers(model, [arm for _, arm in listed], asked, **options)
    questions = [question for question, _ in asked.rows]
    judged = iter(work.judgements(judge, trait, [pair for row in texts for pair in zip(questions, row, strict=True)]))
    found: dict[Any, tuple[DosePoint, ...]] = dict.fromkeys(arms, ())
    for (name, arm), row in zip(listed, texts, strict=True):
        steered = arm.vector or vectors["native"]
        point = dose_point(arm.coefficient, [next(judged) for _ in questions], row[:: asked.samples], steered)
        found[name] = (*found[name], point)
    return found


def _vector(push: Push, rows: AnchorRows, trait: Trait) -> PersonaVector:
    return PersonaVector(
        push.direction[None].float(),
        (push.layer,),
        trait.name,
        rows.model,
        statistics={"resid_norm": (rows.resid_norms[push.layer],)},
    )
