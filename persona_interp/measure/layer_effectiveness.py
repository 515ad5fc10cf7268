"""`layer_effectiveness`: which layers of a model steer a trait, by behaviour or by something cheaper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.measure.contrast_pairs import ContrastPairs, contrast_pairs
from persona_interp.measure.dose import DosePoint
from persona_interp.measure.effectiveness import METHODS, LayerEffectiveness, LayerScore
from persona_interp.measure.held_out import held_out_best
from persona_interp.measure.layer_proxies import (
    RATIOS,
    geometry_scores,
    gradient_scores,
    known_ratios,
    lens_scores,
    likelihood_scores,
)
from persona_interp.measure.layer_scan import MIN_COHERENCE, LayerScan, coherent, scan_layers
from persona_interp.measure.screened_layers import N_READ, screened_scores
from persona_interp.measure.screened_layers import RATIOS as SCREENED_RATIOS
from persona_interp.measure.statistics import Estimate
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

AUTO = "screened-likelihood"
"""What ``--layer auto`` goes by: likelihood, which ranks layers best of the cheap methods that `validate-layers` measures, at the
layers that a gradient singles out alone: at all of them it costs more than an extraction."""
SWEPT_RATIOS = (0.2, 0.4, 0.6, 0.8)
PAIRS = 16


def layer_effectiveness(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    *,
    method: str = AUTO,
    pairs: ContrastPairs | None = None,
    n_pairs: int = PAIRS,
    ratios: Sequence[float] | None = None,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = "auto",
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> LayerEffectiveness:
    """Score every layer of `vector`.

    Example:
        >>> found = layer_effectiveness(model, vector, trait)
        >>> print(found.reason())
        >>> vector = found.recorded_in(vector)

    Args:
        model: the model to steer.
        vector: scored at each of its layers; must know the residual norms, unless `method` is geometry.
        trait: the vector's own, or its name (`resolve_trait`).
        method: one of `METHODS`. ``sweep`` generates and judges answers at every layer; the others generate only `pairs`,
            ``geometry`` nothing.
        pairs: answers with and without the trait, other than those the vector was made from; made if None.
        n_pairs: how many to make.
        ratios: perturbation ratios to try, in both directions for a sweep.
        questions: for the sweep and the pairs; the trait's extraction questions if None, so that no layer is chosen on
            evaluation questions.
        judge: of the sweep (`load_judge`); the other methods need none.
        sampling: how to draw answers.
        seed: of the answers.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        UnknownNameError: no such method.
        InvalidInputError: a vector without residual norms, or too few pairs.
        IncompatibleError: the vector does not fit the model.
    """
    if method not in METHODS:
        raise unknown_name("layer effectiveness method", method, METHODS)
    vector.check_fits(model.identity)
    if method == "sweep":
        scan = sweep_layers(
            model, vector, trait, ratios=ratios, questions=questions, judge=judge, sampling=sampling, seed=seed,
            batch_size=batch_size,
        )  # fmt: skip
        return from_scan(scan, vector.layers)
    part = steerable_part(vector, model)
    if method == "geometry":
        return _result(model, vector, method, geometry_scores(part), 0, {})
    if pairs is None:
        sampling = pairs_sampling(method, sampling)
        pairs = contrast_pairs(
            model, trait, n_pairs=n_pairs, questions=questions, sampling=sampling, seed=seed + 1, batch_size=batch_size
        )
    if method == "screened-likelihood":
        scores = screened_scores(model, part, pairs.pairs, ratios=ratios or SCREENED_RATIOS, batch_size=batch_size)
    elif method == "likelihood":
        scores = likelihood_scores(model, part, pairs.pairs, ratios=ratios or RATIOS, batch_size=batch_size)
    else:
        proxy = gradient_scores if method == "gradient" else lens_scores
        scores = proxy(model, part, pairs.pairs, batch_size=batch_size)
    return _result(model, vector, method, scores, pairs.n_tokens, {"n_pairs": len(pairs.pairs), "seed": seed})


def pairs_sampling(method: str, sampling: Sampling | None = None) -> Sampling:
    """How to draw the pairs that `method` reads: no longer than it does. An answer begins alike whatever its limit."""
    sampling = Sampling() if sampling is None else sampling
    return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, N_READ)) if method == AUTO else sampling


def steerable_part(vector: PersonaVector, model: SteerableModel) -> PersonaVector:
    """`vector` at the layers where the model can be steered; others get no score.

    Raises:
        InvalidInputError: there is no such layer.
    """
    layers = [layer for layer in vector.layers if layer >= model.first_steerable_layer]
    if not layers:
        raise InvalidInputError(
            f"{model.name} can be steered from layer {model.first_steerable_layer} on, but the vector {vector.trait!r} has only "
            f"{', '.join(map(str, vector.layers))}: extract it at more layers"
        )
    return vector.select(layers)


def sweep_layers(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    *,
    ratios: Sequence[float] | None = None,
    directions: Sequence[int] = (-1, 1),
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = "auto",
    sampling: Sampling | None = None,
    seed: int = 0,
    samples: int = 1,
    batch_size: int | None = None,
) -> LayerScan:
    """`scan_layers` at the same perturbation ratios in every layer, so that layers with other norms compare.

    Raises:
        InvalidInputError: a vector without residual norms; also as `scan_layers`.
    """
    vector = steerable_part(vector, model)
    norm_ratios = known_ratios(vector)
    tried = SWEPT_RATIOS if ratios is None else ratios
    doses = {layer: [sign * ratio / norm_ratios[layer] for sign in directions for ratio in tried] for layer in vector.layers}
    return scan_layers(
        model, vector, trait, doses, questions=questions, judge=judge, sampling=sampling, seed=seed, samples=samples,
        batch_size=batch_size,
    )  # fmt: skip


def from_scan(scan: LayerScan, layers: Sequence[int] = ()) -> LayerEffectiveness:
    """The scores of a behavioural scan: how far each layer moves the trait score, in the direction that has room, while coherent.

    The interval is over questions, of what the best dose does on questions that it was not picked on. A layer that moves nothing
    coherently scores 0. Layers of `layers` that were not swept have no score.
    """
    return LayerEffectiveness(
        trait=scan.trait,
        model=scan.model,
        method="sweep",
        scores=_with_unscored([_swept(scan, layer) for layer in scan.layers], layers),
        n_tokens=int(scan.provenance.get("n_tokens", 0)),
        provenance=scan.provenance,
    )


def usable_range(points: Sequence[DosePoint]) -> tuple[float, float]:
    """The smallest and the largest coefficient up to which, from 0 on, every one tried leaves answers coherent."""
    ends: list[float] = []
    for sign in (-1, 1):
        side = sorted((point for point in points if point.coefficient * sign > 0), key=lambda point: abs(point.coefficient))
        reached = 0.0
        for point in side:
            if not coherent(point):
                break
            reached = point.coefficient
        ends.append(reached)
    return ends[0], ends[1]


def _with_unscored(scores: Sequence[LayerScore], layers: Sequence[int]) -> tuple[LayerScore, ...]:
    known = {score.layer: score for score in scores}
    return tuple(known.get(layer, LayerScore(layer, None)) for layer in sorted({*known, *layers}))


def _swept(scan: LayerScan, layer: int) -> LayerScore:
    points, base = scan.by_layer[layer], scan.baseline
    usable = usable_range(points)
    if base.trait is None:
        return LayerScore(layer, None, usable=usable)
    point = scan.furthest(layer)
    if point is None:
        return LayerScore(layer, 0.0, usable=usable)
    expected = _expected(scan, layer)
    score = scan.movement(layer)
    known = point.coherence is not None and base.coherence is not None
    return LayerScore(
        layer,
        score,
        expected.low,
        expected.high,
        point.coefficient,
        point.perturbation_ratio,
        (base.coherence or 0.0) - (point.coherence or 0.0) if known else None,
        usable,
        expected.value,
    )


def _expected(scan: LayerScan, layer: int) -> Estimate:
    """The movement at the dose that is best on one half of the questions, on the other half; both ways round."""

    def moved(steered: float | None, plain: float | None) -> float:
        return math.nan if steered is None or plain is None else scan.direction * (steered - plain)

    points, base = scan.by_layer[layer], scan.baseline
    effects = [[moved(*scores) for scores in zip(point.trait_scores, base.trait_scores, strict=True)] for point in points]
    coherence = [[math.nan if score is None else score for score in point.coherence_scores] for point in points]
    questions = scan.answer_questions
    return held_out_best([[effects]], questions, coherence=[[coherence]], least=MIN_COHERENCE, or_nothing=True)[0]


def _result(
    model: SteerableModel,
    vector: PersonaVector,
    method: str,
    scores: tuple[LayerScore, ...],
    n_tokens: int,
    settings: dict[str, int],
) -> LayerEffectiveness:
    if all(score.score is None for score in scores):
        raise InvalidInputError(
            f"the vector {vector.trait!r} records nothing that method {method!r} could score: use method 'likelihood', or "
            "extract it again"
        )
    found = provenance(model=model.identity.to_json(), **settings)
    return LayerEffectiveness(vector.trait, model.name, method, _with_unscored(scores, vector.layers), n_tokens, found)
