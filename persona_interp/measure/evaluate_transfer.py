"""`evaluate_transfer`: how much of the target's own vector's effect does a vector from elsewhere have?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from persona_interp.alignment.methods import EFFECTS
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.arm_points import arm_points
from persona_interp.measure.arms import Arm, Asked, Positions, prompted_arms, steered_arms
from persona_interp.measure.controls import random_like
from persona_interp.measure.evaluate import asked_questions, checked_coefficients
from persona_interp.measure.kept_work import KeptWork
from persona_interp.measure.transfer_evaluation import CarriedCurve, TransferEvaluation
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.transfer import Transferred, transfer
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

N_RANDOM = 4
N_SHUFFLED = 4


def evaluate_transfer(
    target: SteerableModel,
    vector: PersonaVector,
    native: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float],
    num_prompts: int | None = None,
    *,
    source_rows: AnchorRows,
    target_rows: AnchorRows,
    methods: Sequence[str] = (EFFECTS,),
    other: PersonaVector | None = None,
    controls: bool = True,
    judge: str | Judge | None = "auto",
    source_layer: int | None = None,
    native_layer: int | None = None,
    positions: Positions = "all",
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
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
        source_rows: the source's anchors, see `read_rows`.
        target_rows: the target's, of the same texts.
        methods: alignments; controls are made for the first.
        controls: whether to make them; without, the verdict rests on the interval alone.
        other: the source's vector of another trait, for the control of that name; without it that control is missing.
        judge: a judge or its name (`load_judge`).
        source_layer: where the direction is taken from; None: the vector's most effective layer.
        native_layer: where the native vector steers; None: likewise.
        positions: tokens steered.
        samples: answers to each question under each condition.
        sampling: how to draw answers.
        seed: of answers, random directions and shuffles.
        folder: keeps answers and scores, so that work cut short goes on.
        batch_size: rows run together.

    Raises:
        InvalidInputError: unusable coefficients, questions or methods.
        IncompatibleError: `native` is not of the target, or `vector` not of the source.
    """
    trait = resolve_trait(target, trait)
    doses = [dose for dose in checked_coefficients(coefficients, samples) if dose != 0]
    asked = Asked(asked_questions(trait, None, num_prompts), samples, seed)
    if not native.same_basis(target.identity):
        raise IncompatibleError(f"the native vector is of {native.model.name}, not of {target.name}: extract one from the target")
    if not methods:
        raise InvalidInputError("no alignment method was given: name at least one, such as effects")
    scorer = load_judge(judge, target, trait=trait)
    at = choose_layer(native, target.first_steerable_layer).layer if native_layer is None else native_layer
    own = replace(native.select([at]), statistics={"resid_norm": (target_rows.resid_norms[at],)})
    setting = {"source": source_rows, "target": target_rows, "source_layer": source_layer}
    names = dict.fromkeys(methods)
    carried = {name: transfer(vector, alignment=name, **setting) for name in names}
    main = next(iter(names))
    options = {"alignment": main, **setting}
    drawn = _controls(vector, other, carried[main], own, options, seed, with_naive="naive" not in carried) if controls else {}
    at_equal_ratio = {name: _matched(found, own) for name, found in carried.items()}
    arms = {
        "baseline": [Arm("baseline")],
        "native": steered_arms("native", own, doses),
        "prompted": list(prompted_arms(trait)),
        **{f"carried {name}": steered_arms(name, found, doses) for name, found in at_equal_ratio.items()},
        **{
            f"control {name} {number}": steered_arms(name, each, doses)
            for name, vectors in drawn.items()
            for number, each in enumerate(vectors)
        },
    }
    with KeptWork(folder) as work:
        points = arm_points(work, target, arms, asked, scorer, trait, positions, sampling or Sampling(), batch_size)
    return TransferEvaluation(
        trait=trait.name,
        source=vector.model.name,
        target=target.name,
        judge=scorer.name,
        questions=asked.questions,
        samples=samples,
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
        provenance=provenance(
            source=vector.model.to_json(),
            target=target.identity.to_json(),
            anchors=source_rows.anchors,
            seed=seed,
            sampling=(sampling or Sampling()).to_json(),
            positions=positions,
        ),
    )


def _controls(
    vector: PersonaVector,
    other: PersonaVector | None,
    main: Transferred,
    own: PersonaVector,
    options: dict[str, Any],
    seed: int,
    *,
    with_naive: bool,
) -> dict[str, list[PersonaVector]]:
    """Vectors of one layer each, as long as the native one is at the same coefficient."""
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
    if with_naive and "states" in options["source"].kinds and "states" in options["target"].kinds:
        found["naive"] = [_matched(transfer(vector, layer_map=at, **{**options, "alignment": "naive"}), own)]
    if other is not None:
        elsewhere = {**options, "source_layer": None}
        found["wrong trait"] = [_matched(transfer(other, **elsewhere), own)]
    return found


def _matched(carried: Transferred, own: PersonaVector) -> PersonaVector:
    """The carried vector at its layer, as long against the mean residual there as the native one is at its own."""
    vector = carried.vector.select([carried.report.target_layer])
    (ratio,), (wanted,) = vector.norm_ratios, own.norm_ratios
    if not ratio or not wanted:
        raise InvalidInputError(f"a vector of {vector.trait!r} is zero: there is nothing to steer with")
    return vector * (wanted / ratio)


def _cosine(carried: Transferred, native: PersonaVector) -> float | None:
    at = carried.report.target_layer
    if at not in native.layers:
        return None
    return float(torch.cosine_similarity(carried.vector.at(at).double(), native.at(at).double(), dim=0))
