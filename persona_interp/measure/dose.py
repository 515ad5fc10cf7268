"""Dose and response: the same questions answered at several coefficients, scored for the trait and for coherence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.interventions.graph import WritePositions
from persona_interp.measure.conditions import steered
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import Protocol, ProtocolOptions, checked_coefficients
from persona_interp.measure.run import run
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.records import Record
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering
from persona_interp.vectors.steers import Layers


@dataclass(frozen=True)
class DoseResponse(Record):
    """Trait and coherence against coefficient, for one vector in one model.

    Attributes:
        trait: name of the trait judged.
        vector: name of the trait the vector was made for.
        model: name of the model.
        judge: name of the judge.
        layers: 0-based blocks steered.
        positions: tokens steered.
        points: one a coefficient, in the order asked for.
        provenance: versions, seed, sampling, model identity.
    """

    json_kind = "dose response"
    json_version = 1
    json_names = ("trait", "vector", "model", "judge", "positions", "layers", "spearman", "*")

    trait: str
    vector: str
    model: str
    judge: str
    layers: tuple[int, ...]
    positions: str
    points: tuple[DosePoint, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In the order of `points`."""
        return tuple(point.coefficient for point in self.points)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of coefficient and mean trait score; None with fewer than three scored points, or equal scores."""
        from scipy.stats import spearmanr

        scored = [point for point in self.points if point.trait is not None]
        if len(scored) < 3 or len({point.trait for point in scored}) < 2:
            return None
        result: Any = spearmanr([point.coefficient for point in scored], [point.trait for point in scored])
        return float(result.statistic)

    def at(self, coefficient: float) -> DosePoint:
        """The point of one coefficient.

        Raises:
            InvalidInputError: it was not among those asked for.
        """
        for point in self.points:
            if point.coefficient == coefficient:
                return point
        listed = ", ".join(f"{each:g}" for each in self.coefficients)
        raise InvalidInputError(f"coefficient {coefficient:g} was not measured: there are {listed}")

    def _repr_html_(self) -> str:
        """In a notebook: what was steered, and a row for each coefficient."""
        columns = {
            name.replace("_", " "): [getattr(point, name) for point in self.points]
            for name in ("coefficient", "perturbation_ratio", "trait", "coherence", "n")
        }
        where = f"the vector {self.vector!r} added at layers {', '.join(map(str, self.layers))} ({self.positions} tokens)"
        return html_table(f"{self.trait} in {self.model}, {where}; judge {self.judge}", columns, bars="trait")


def dose_response(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    coefficients: Sequence[float] | None = None,
    *,
    ratios: Sequence[float] | None = None,
    layers: Layers = None,
    positions: WritePositions = "all",
    system: str | None = None,
    **options: Unpack[ProtocolOptions],
) -> DoseResponse:
    """Ask the same questions at each coefficient, and score the answers.

    All coefficients run in one batched generation in which each row carries its own. Row k of every coefficient draws from the
    same random stream, so coefficients are compared on paired answers.

    Example:
        >>> dose = dose_response(model, vector, trait, [-2, -1, 0, 1, 2], layers=[3])
        >>> [(point.coefficient, point.trait, point.coherence) for point in dose.points]
        >>> dose = dose_response(model, vector, trait, ratios=[-0.4, 0, 0.4])  # at the layer recorded as the best

    Args:
        model: the model to steer.
        vector: what to add.
        trait: what to look for, or its name (`resolve_trait`); need not be the vector's own.
        coefficients: multiply the vector as it is; 0 is the unsteered model.
        ratios: in place of coefficients, at one layer: how large what is added is, as a share of the mean residual norm there.
        layers: which blocks to steer at: one, several, or ``"all"``; None: the one recorded as the most effective.
        positions: which tokens to steer at.
        system: a system prompt for all of them.
        options: how it is measured, each by its name in `Protocol`: ``questions`` (the trait's evaluation questions if None),
            ``samples``, ``judge``, ``sampling``, ``seed``, ``folder``, ``batch_size``; or a ``protocol``.

    Raises:
        InvalidInputError: no coefficient or question, one given twice or not finite, or `samples` below 1.
        IncompatibleError: the vector does not fit the model.
    """
    steering = Steering.of(vector, layers, positions, first_layer=model.first_steerable_layer)
    steering.selected.check_fits(model.identity)
    doses, protocol = checked_coefficients(steering.selected.doses(coefficients, ratios), steered=False), Protocol.of(options)
    asked = protocol.asked(model, trait, streams="place", distinct=False)
    conditions = steered(vector.trait, steering, doses, systems=() if system is None else (system,))
    found = run(model, asked, conditions)
    return DoseResponse(
        trait=asked.trait.name,
        vector=vector.trait,
        model=model.name,
        judge=asked.judge.name,
        layers=steering.layers,
        positions=positions,
        points=tuple(each.point(examples=each.texts) for each in found),
        provenance=provenance(
            model=model.identity.to_json(),
            **asked.record,
            system=system,
            samples=asked.samples,
            questions=list(asked.questions),
        ),
    )
