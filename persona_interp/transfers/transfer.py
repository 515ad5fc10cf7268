"""`transfer`: a persona vector of one model as a persona vector of another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from persona_interp.alignment.layer_map import equal_depth
from persona_interp.alignment.layer_map import layer_map as layers_mapped
from persona_interp.errors import IncompatibleError, InvalidInputError, unknown_name
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.transfers.anchor_rows import AnchorRows, Kind
from persona_interp.transfers.anchors import Anchor, anchors_for
from persona_interp.transfers.carry import HELD_OUT, Carried, carry, choice_quality, default_method, kind_of
from persona_interp.transfers.correspondence import correspondence
from persona_interp.transfers.coverage import coverage
from persona_interp.transfers.reading import DEFAULT, read_rows
from persona_interp.transfers.report import LayerFit, TransferReport
from persona_interp.vectors.basis import same_basis
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.lineage import KEY, Lineage, kinship
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steers import Layers

LAYER_MAPS = ("auto", "quality", "cka", "cca", "monotone", "depth")
CALIBRATIONS = ("perturbation", "none")


@dataclass(frozen=True)
class Transferred:
    """A vector in the target's basis, and how it came there.

    Attributes:
        vector: at every layer of the target that was tried. Its statistic ``effectiveness`` holds the scores of the layers, so
            that ``--layer auto`` and `choose_layer` take the one the report names.
        report: what it rests on.
    """

    vector: PersonaVector
    report: TransferReport

    def graph(self, coefficient: float | None = None, layers: Layers = None, **options: Any) -> InterventionGraph:
        """`PersonaVector.graph` of the vector; without `layers` at the layer that the report names."""
        return self.vector.graph(coefficient, self.report.target_layer if layers is None else layers, **options)

    def steer(
        self, model: Any, coefficient: float | None = None, layers: Layers = None, **options: Any
    ) -> AbstractContextManager[Any]:
        """`PersonaVector.steer` with the vector; without `layers` at the layer that the report names."""
        return self.vector.steer(model, coefficient, self.report.target_layer if layers is None else layers, **options)


def transfer(
    vector: PersonaVector,
    source: SteerableModel | AnchorRows,
    target: SteerableModel | AnchorRows,
    *,
    alignment: str | None = None,
    states: Kind = "states",
    layer_map: str | int = "auto",
    calibration: str | float = "perturbation",
    source_layer: int | None = None,
    anchors: Sequence[Anchor] | None = None,
    folder: str | Path | None = None,
    shuffled: int | None = None,
    batch_size: int | None = None,
) -> Transferred:
    """Carry `vector` into the basis of `target`, by unlabelled texts that both models read.

    Neither the trait's answers, nor its prompts, nor a vector of the target enter: only the vector, and what source and target
    make of the anchors (`AnchorRows`). Rows are read once and kept, so another trait costs a fit. The two models are never
    needed together: give the rows of one, from `read_rows`, instead of the model.

    Example:
        >>> carried = transfer(vector, load_model("organism-qwen2"), load_model("organism-llama"))
        >>> print(carried.report.reason(), carried.report.warnings)
        >>> with carried.steer(llama, 0.4):
        ...     print(*llama.generate(questions))

    Args:
        vector: of the source.
        source: the model it is of, or its rows.
        target: another model, or its rows.
        alignment: one of `alignment_names`; None: effects, or ridge where a model passes no gradients, which is said.
        states: what methods on states are fitted on: ``states`` (a row a text), ``sentences``, ``words`` or ``prompts``.
        layer_map: ``auto``: the layer with the highest score; ``quality``, ``cka``, ``cca``: the
            layer most like the source's by that measure of states (`correspondence`), whatever the vector; ``monotone``: by
            quality, with no layer of the source mapped before an earlier one; ``depth``: at equal relative depth, a control; or
            a layer.
        calibration: ``perturbation``: as long against the target's mean residual as the vector is against the source's, so that a
            coefficient means the same perturbation ratio in both; ``none``: as long as the map makes it; or a factor on that.
        source_layer: which of the vector's; None: the most effective (`choose_layer`).
        anchors: texts; None: `anchors_for` both models.
        folder: where rows are kept; None: the user's data folder.
        shuffled: a seed: a control with anchors paired in random order.
        batch_size: rows a model runs together.

    Raises:
        IncompatibleError: the vector is not of the source, or the two read different anchors.
        InvalidInputError: an unusable layer, calibration or set of anchors.
        UnknownNameError: no such alignment.
    """
    needed = (*DEFAULT, states if alignment is None else kind_of(alignment, states))
    _check_choices(layer_map, calibration)
    both = (source, target)
    models = [side for side in both if isinstance(side, SteerableModel)]
    if anchors is None and len(models) == len(both):
        anchors = anchors_for(models)
    ours, theirs = (_rows(side, anchors, needed, folder, batch_size) for side in both)
    alignment = default_method(ours, theirs) if alignment is None else alignment
    kind = kind_of(alignment, states)
    if not (same_basis(vector.model, ours.model) or (isinstance(source, SteerableModel) and _measured_kin(vector, source))):
        raise IncompatibleError(
            f"the vector {vector.trait!r} is of {vector.model.name}, not of {ours.model.name}: give the model it was extracted "
            "from as the source"
        )
    layer = choose_layer(vector).layer if source_layer is None else source_layer
    direction = vector.at(layer)
    layers = list(theirs.steerable_layers)
    carried = carry(
        direction, ours, theirs, source_layer=layer, target_layers=layers, method=alignment, states=states, shuffled=shuffled
    )
    if layer_map == "auto":
        chosen = max(carried, key=lambda each: each.score).layer
    else:
        chosen = layer_map if isinstance(layer_map, int) else _mapped(layer_map, layer, ours, theirs)
    if chosen not in layers:
        raise InvalidInputError(
            f"{theirs.model.name} cannot be steered at layer {chosen}: choose one of {layers[0]} to {layers[-1]}"
        )
    report = TransferReport(
        trait=vector.trait,
        source=vector.model,
        target=theirs.model,
        method=alignment,
        layer_map=str(layer_map),
        calibration=str(calibration),
        source_layer=layer,
        target_layer=chosen,
        layers=tuple(LayerFit(each.layer, each.score, each.quality) for each in carried),
        coverage=coverage(ours, layer, direction),
        kind="effects" if kind == "effects" else "states",
        n_anchors=len(ours.texts(kind).unique()),
        provenance=provenance(anchors=ours.anchors, rows=kind, held_out=f"every {HELD_OUT}th", shuffled=shuffled),
        choice_quality=choice_quality(carried) if layer_map == "auto" else None,
    )
    ratio = float(direction.double().norm()) / ours.resid_norms[layer]
    found = _vector(carried, theirs, report, ratio, calibration)
    if isinstance(target, SteerableModel):
        found = replace(found, provenance={**found.provenance, KEY: Lineage.of(target).to_json()})
    return Transferred(found, report)


def _measured_kin(vector: PersonaVector, source: SteerableModel) -> bool:
    """Whether `source` is a copy of the vector's own model, by measurement."""
    found = kinship(vector, source).measured
    return found is not None and found.kin


def _mapped(how: str, layer: int, source: AnchorRows, target: AnchorRows) -> int:
    if how == "depth":
        return max(target.first_layer, equal_depth(layer, source.n_layers, target.n_layers))
    similarity = correspondence(source, target, "quality" if how == "monotone" else how)[:, target.first_layer :]
    return target.first_layer + layers_mapped(similarity, "monotone" if how == "monotone" else "best")[layer]


def _vector(
    carried: Sequence[Carried], target: AnchorRows, report: TransferReport, ratio: float, calibration: str | float
) -> PersonaVector:
    directions = torch.stack([each.direction for each in carried])
    norms = directions.norm(dim=1, keepdim=True)
    if calibration == "perturbation":
        wanted = ratio * torch.tensor([target.resid_norms[each.layer] for each in carried], dtype=torch.float64)
        directions = directions / norms.clamp_min(torch.finfo(torch.float64).tiny) * wanted[:, None]
    elif isinstance(calibration, int | float):
        directions = directions * calibration
    scores: dict[int, float | None] = {each.layer: each.score for each in carried}
    if report.layer_map != "auto":
        scores = {layer: (1.0 if layer == report.target_layer else None) for layer in scores}
    method = f"transfer ({report.method}, layer map {report.layer_map})"
    return PersonaVector(
        directions=directions.float(),
        layers=tuple(each.layer for each in carried),
        trait=report.trait,
        model=target.model,
        positions="unknown",
        estimator="unknown",
        statistics={
            "resid_norm": tuple(target.resid_norms[layer] for layer in scores),
            "effectiveness": tuple(scores.values()),
        },
        provenance={**provenance(), "transfer": report.to_json(), "effectiveness": {"method": method, "n_tokens": 0}},
    )


def averaged(carried: Sequence[Transferred]) -> PersonaVector:
    """One vector from those of several sources: the mean of their unit directions at each layer, in their mean length.

    Layers are scored by the mean of the scores, each divided by its source's largest.

    Raises:
        InvalidInputError: none was given, or they are of different targets, traits or layers.
    """
    vectors = [each.vector for each in carried]
    kinds = {(each.trait, each.model.fingerprint, each.layers) for each in vectors}
    if len(kinds) != 1:
        raise InvalidInputError(
            f"{len(vectors)} transferred vectors with {len(kinds)} different traits, targets or layers cannot be averaged: carry "
            "the same trait into one target"
        )
    units = torch.stack([each.directions.double() / each.directions.double().norm(dim=1, keepdim=True) for each in vectors])
    mean = units.mean(dim=0)
    length = torch.stack([each.norms for each in vectors]).mean(dim=0)
    directions = mean / mean.norm(dim=1, keepdim=True) * length[:, None]
    shares = [[fit.score / max(abs(f.score) for f in each.report.layers) for fit in each.report.layers] for each in carried]
    scores = tuple(sum(column) / len(column) for column in zip(*shares, strict=True))
    sources = [each.report.source.name for each in carried]
    noted = {"method": f"transfer (mean of {len(sources)} sources)", "n_tokens": 0}
    return replace(
        vectors[0],
        directions=directions.float(),
        statistics={**vectors[0].statistics, "effectiveness": scores},
        provenance={**provenance(), "transferred from": sources, "effectiveness": noted},
    )


def _rows(
    side: SteerableModel | AnchorRows,
    anchors: Sequence[Anchor] | None,
    kinds: Sequence[Kind],
    folder: str | Path | None,
    batch_size: int | None,
) -> AnchorRows:
    if isinstance(side, AnchorRows):
        return side
    if anchors is None:
        raise InvalidInputError("one side is given as rows: give the anchors they were read from, for the other to read")
    return read_rows(side, anchors, kinds=tuple(dict.fromkeys(kinds)), folder=folder, batch_size=batch_size)


def _check_choices(layer_map: Any, calibration: Any) -> None:
    if isinstance(layer_map, str) and layer_map not in LAYER_MAPS:
        raise unknown_name("layer map", layer_map, LAYER_MAPS, "or give a layer of the target")
    if isinstance(calibration, str) and calibration not in CALIBRATIONS:
        raise unknown_name("calibration", calibration, CALIBRATIONS, "or give a factor")
