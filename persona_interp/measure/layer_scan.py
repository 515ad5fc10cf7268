"""Which layer steers: every layer tried at several coefficients on the same questions, and scored for what it did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import WritePositions
from persona_interp.measure.bootstrap import answers_each
from persona_interp.measure.conditions import Condition, baseline
from persona_interp.measure.dose import DoseResponse
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.measure.run import run
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.traits.coherence import CHOSEN
from persona_interp.traits.coherence import coherent as coherent_enough
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

MIN_COHERENCE = CHOSEN
"""Mean coherence, 0-100, below which a movement does not count; see `traits.coherence`."""

_FAR_ENOUGH = 0.9
"""Share of a layer's furthest movement that is far enough: past it, more strength mostly buys more damage."""
_ROOM_CLOSED = 0.75
"""Share of the way from the baseline to the end of the scale that is far enough too."""
_AS_GOOD = 0.8
"""Share of the furthest layer's movement that counts as equal: on the twenty questions of a scan, less is noise."""


@dataclass(frozen=True)
class LayerScan(Record):
    """A behavioural scan over layers and coefficients.

    Attributes:
        trait: name of the trait judged.
        model: name of the model.
        judge: name of the judge.
        positions: tokens steered.
        baseline: the unsteered model on the same questions.
        by_layer: 0-based block -> what each coefficient did there, in the order asked for; 0 is not among them.
        provenance: versions, seed, sampling, questions, identities.
    """

    json_kind = "layer scan"
    json_version = 1
    json_names = ("trait", "model", "judge", "positions", "baseline", "layers", "provenance")

    trait: str
    model: str
    judge: str
    positions: str
    baseline: DosePoint
    by_layer: Mapping[int, tuple[DosePoint, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of_dose(cls, dose: DoseResponse) -> LayerScan:
        """A dose response at one layer as the scan of that layer.

        Raises:
            InvalidInputError: it steered several layers at once, or has no coefficient 0.
        """
        if len(dose.layers) != 1:
            raise InvalidInputError(f"the dose response steers layers {dose.layers} at once: a scan has one at a time")
        steered = tuple(point for point in dose.points if point.coefficient)
        by_layer = {dose.layers[0]: steered}
        return cls(dose.trait, dose.model, dose.judge, dose.positions, dose.at(0.0), by_layer, dose.provenance)

    @property
    def layers(self) -> tuple[int, ...]:
        """0-based blocks tried."""
        return tuple(self.by_layer)

    @property
    def answer_questions(self) -> tuple[int, ...]:
        """The number of the question of each answer, the same at every layer and coefficient."""
        samples = answers_each(self.provenance, self.baseline.n)
        return tuple(place // samples for place in range(self.baseline.n))

    @property
    def cells(self) -> Iterator[tuple[int, DosePoint]]:
        """(layer, what one coefficient did there), layer by layer."""
        return ((layer, point) for layer, points in self.by_layer.items() for point in points)

    @property
    def direction(self) -> int:
        """+1 if the baseline leaves more room upwards, else -1."""
        return 1 if (self.baseline.trait or 0.0) <= 50 else -1

    def movement(self, layer: int, direction: int | None = None) -> float:
        """The furthest the trait score moved at `layer` in `direction` (the roomier one if None) while coherent, in points.

        0 where no coherent coefficient moved it that way.
        """
        direction = self.direction if direction is None else direction
        return max([0.0, *(direction * moved for moved, _ in self.coherent_moves(layer))])

    def furthest(self, layer: int) -> DosePoint | None:
        """The coherent point that moved the score furthest in the roomier direction; None where none did."""
        moves = [(self.direction * moved, point) for moved, point in self.coherent_moves(layer) if self.direction * moved > 0]
        return max(moves, key=lambda move: move[0])[1] if moves else None

    def best_layer(self) -> int:
        """The layer that moves the score in the direction with room by the smallest push.

        Of the layers that get 80 % as far as the furthest one, the one whose `strongest` coefficient perturbs the residual stream
        least, since a random direction of the same length then does least too. Without known perturbations, the furthest one.
        """
        furthest = max(map(self.movement, self.layers))
        candidates = [layer for layer in self.layers if self.movement(layer) >= _AS_GOOD * furthest]
        return min(candidates, key=lambda layer: (self._push(layer), -self.movement(layer)))

    def _push(self, layer: int) -> float:
        coefficient = self.strongest(layer, self.direction)
        found = [point.perturbation_ratio for point in self.by_layer[layer] if point.coefficient == coefficient]
        return math.inf if not found or found[0] is None else found[0]

    def strongest(self, layer: int, direction: int, *, enough: float | None = None) -> float | None:
        """The mildest coherent coefficient that goes far enough in `direction`.

        Far enough is 90 % as far as `layer` ever gets or `enough` points, whichever is less. None where no coherent coefficient
        of that sign moves the score that way.

        Args:
            layer: where.
            direction: +1 or -1.
            enough: three quarters of the way from the baseline to the end of the scale if None.
        """
        base = self.baseline.trait or 0.0
        room = 100 - base if direction > 0 else base
        target = min(_FAR_ENOUGH * self.movement(layer, direction), _ROOM_CLOSED * room if enough is None else enough)
        reaching = [
            abs(point.coefficient)
            for moved, point in self.coherent_moves(layer)
            if point.coefficient * direction > 0 and direction * moved > 0 and direction * moved >= target
        ]
        return direction * min(reaching) if reaching else None

    def json_items(self) -> dict[str, Any]:
        """Layers as a list, in their order."""
        rows = [{"layer": layer, "points": points} for layer, points in self.by_layer.items()]
        return {**super().json_items(), "layers": rows}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inverse of `json_items`."""
        return {**data, "by_layer": {row["layer"]: row["points"] for row in data["layers"]}}

    def coherent_moves(self, layer: int) -> list[tuple[float, DosePoint]]:
        """(movement, point) of the cells of `layer` that are coherent, or were not judged for it."""
        base = self.baseline.trait
        return [
            (point.trait - base, point)
            for point in self.by_layer[layer]
            if base is not None and point.trait is not None and coherent(point)
        ]


def coherent(point: DosePoint) -> bool:
    """Whether nothing is known against choosing this dose: mean coherence is at least 75, or was not judged."""
    return coherent_enough(point.coherence, MIN_COHERENCE) is not False


def scan_layers(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | Mapping[int, Sequence[float]],
    *,
    positions: WritePositions = "all",
    **options: Unpack[ProtocolOptions],
) -> LayerScan:
    """Steer at every layer of `vector`, at each coefficient, in one batched generation whose rows carry their own write.

    Where `positions` is ``response``, each prompt is run once for all layers and coefficients.

    Args:
        model: the model to steer.
        vector: what to add, one direction a layer.
        trait: what to look for, or its name (`resolve_trait`).
        coefficients: multiply the vector as it is, the same at every layer or for each its own; the unsteered baseline is always
            measured beside them.
        positions: which tokens to steer at.
        options: how it is measured, each by its name in `Protocol`; ``questions`` are the trait's extraction questions if None,
            so that a layer is never chosen on the evaluation questions.

    Example:
        >>> scan = scan_layers(model, vector, trait, [-1.0, 1.0])
        >>> scan.best_layer()

    Raises:
        InvalidInputError: no question, no coefficient, or coefficients that are all 0.
        IncompatibleError: the vector does not fit the model.
    """
    vector.check_fits(model.identity)
    trait, protocol = resolve_trait(model, trait), Protocol.of(options)
    by_layer = coefficients if isinstance(coefficients, Mapping) else dict.fromkeys(vector.layers, coefficients)
    cells = [
        Steering(vector, (layer,), float(value), positions) for layer, values in by_layer.items() for value in values if value
    ]
    questions = trait.extraction_questions if protocol.questions is None else protocol.questions
    if not questions or not cells:
        raise InvalidInputError(
            f"a scan needs questions and coefficients other than 0: {len(questions)} and {len(cells)} were given"
        )
    asked = protocol.asked(model, trait, questions, streams="place", distinct=False)
    conditions = [baseline(Steering(vector)), *(Condition(vector.trait, each) for each in cells)]
    answers = run(model, asked, conditions)
    plain, *points = (each.point(examples=each.texts) for each in answers)
    found: dict[int, list[DosePoint]] = {}
    for cell, point in zip(cells, points, strict=True):
        found.setdefault(cell.layers[0], []).append(point)
    return LayerScan(
        trait=trait.name,
        model=model.name,
        judge=asked.judge.name,
        positions=positions,
        baseline=plain,
        by_layer={layer: tuple(points) for layer, points in found.items()},
        provenance=provenance(
            model=model.identity.to_json(),
            vector=vector.trait,
            **asked.record,
            samples=asked.samples,
            questions=list(asked.questions),
            n_answers=sum(len(each.texts) for each in answers),
            n_tokens=sum(each.n_tokens for each in answers),
        ),
    )
