"""`Steering`: a vector, where it is applied and how strongly; what every command, measurement and page steers with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph, WritePositions
from persona_interp.interventions.operations import Add, Operation
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steers import Layers


@dataclass(frozen=True, eq=False)
class Steering:
    """What is done to a model: an operation along a vector at some layers.

    Example:
        >>> steering = Steering(vector, layers=(12,), coefficient=1.5)
        >>> print(steering.perturbation_ratio)
        >>> model.generate(["How are you?"], graph=steering.graph())

    Attributes:
        vector: in the basis of the model.
        layers: 0-based blocks; empty: every layer of the vector.
        coefficient: multiplies the vector as it is; at 0 nothing is done, whatever the operation does at zero.
        positions: tokens that are written to.
        operation: what is done with the direction of each layer: called with it, returns the operation.
        weights: a factor of the coefficient for each of `layers`; empty: 1 at all of them.
        reason: why these layers, where nobody named them.
        decision: how the vector was made fit for the model, and why; empty where there was nothing to decide.

    Raises:
        InvalidInputError: the vector lacks a layer (names those it has), or there is not one weight a layer.
    """

    vector: PersonaVector
    layers: tuple[int, ...] = ()
    coefficient: float = 1.0
    positions: WritePositions = "all"
    operation: Callable[[Tensor], Operation] = Add
    weights: tuple[float, ...] = ()
    reason: str | None = None
    decision: str = ""

    def __post_init__(self) -> None:
        chosen = tuple(self.layers) or self.vector.layers
        object.__setattr__(self, "layers", chosen)
        if self.selected.layers != chosen:  # which raises where one is missing, naming those there are
            raise InvalidInputError(f"layers are {', '.join(map(str, chosen))}: give each once, in ascending order")
        if self.weights and len(self.weights) != len(chosen):
            raise InvalidInputError(f"{len(self.weights)} weights for {len(chosen)} layers: give one each, or none")

    @classmethod
    def of(
        cls, vector: PersonaVector, layers: Layers = None, positions: WritePositions = "all", *, first_layer: int = 0
    ) -> Steering:
        """At these layers; ``"all"`` means every layer of the vector, None the one recorded as the most effective.

        Raises:
            InvalidInputError: the vector lacks a layer, none is given, or none is recorded, with what to do.
        """
        chosen = tuple(sorted(vector.steering_layers(layers, first_layer=first_layer)))
        return cls(vector, chosen, positions=positions)

    @classmethod
    def auto(cls, vector: PersonaVector, first_layer: int = 0, **options: Any) -> Steering:
        """At the layer `choose_layer` picks, and with its reason.

        Args:
            vector: any.
            first_layer: the first where the model can be steered.
            options: other attributes, by name.

        Raises:
            InvalidInputError: the vector has no layer from there on.
        """
        choice = choose_layer(vector, first_layer)
        return cls(vector, (choice.layer,), reason=choice.reason, **options)

    def at(self, coefficient: float) -> Steering:
        """The same at another coefficient."""
        return replace(self, coefficient=coefficient)

    def over(self, coefficients: Iterable[float]) -> list[Steering]:
        """One a coefficient."""
        return [self.at(coefficient) for coefficient in coefficients]

    def check(self, model: Any) -> None:
        """Refuse a model that cannot be steered with this.

        Args:
            model: a `SteerableModel`.

        Raises:
            IncompatibleError: the vector does not fit the model.
            InvalidInputError: it cannot be steered at one of the layers.
        """
        self.selected.check_fits(model.identity)
        if early := [layer for layer in self.layers if layer < model.first_steerable_layer]:
            raise InvalidInputError(
                f"{model.name} can be steered from layer {model.first_steerable_layer} on, not at layer {early[0]}: "
                "choose another layer"
            )

    @cached_property
    def selected(self) -> PersonaVector:
        """The vector at `layers` alone."""
        return self.vector.select(self.layers)

    @property
    def perturbation_ratio(self) -> float | None:
        """|coefficient * v| / mean |h|, the dose that compares across layers and models.

        Of several layers it is the mean over them: a direction that is added at every layer pushes each block's output by about
        that much more than the one before it. None where the norm of the residuals is not known at one of the layers, or where
        something else than adding is done.
        """
        if self.operation is not Add:
            return None
        ratios = self.selected.listed("norm_ratio")
        if any(ratio is None for ratio in ratios):
            return None
        weights = self.weights or (1.0,) * len(ratios)
        return abs(self.coefficient) * fmean(abs(w) * (ratio or 0.0) for w, ratio in zip(weights, ratios, strict=True))

    def graph(self, rows: Sequence[int] | None = None) -> InterventionGraph:
        """As an intervention, in some rows of a call or in all; empty at coefficient 0.

        Raises:
            InvalidInputError: the coefficient is not finite, or none that the operation takes.
        """
        graph = InterventionGraph()
        if self.coefficient == 0 or (rows is not None and not rows):
            return graph
        if not self.weights:
            return self._graph(self.coefficient, self.layers, rows)
        for layer, weight in zip(self.layers, self.weights, strict=True):
            graph += self._graph(self.coefficient * weight, (layer,), rows)
        return graph

    def _graph(self, coefficient: float, layers: Sequence[int], rows: Sequence[int] | None) -> InterventionGraph:
        return self.vector.graph(coefficient, layers, self.positions, rows, operation=self.operation)

    @property
    def key(self) -> list[Any] | None:
        """What `graph` depends on besides the rows, as JSON values; None where nothing is written."""
        if self.coefficient == 0:
            return None
        if self.operation is not Add:
            return ["graph", self.graph().fingerprint]
        digest = hashlib.sha256(self.selected.directions.cpu().float().numpy().tobytes()).hexdigest()
        weights = [list(self.weights)] if self.weights else []
        return [digest, list(self.layers), self.coefficient, self.positions, *weights]


@dataclass(frozen=True, eq=False)
class Together:
    """Several steerings of one model at once, as one: each works on what those before it left.

    Attributes:
        parts: at least one.

    Raises:
        InvalidInputError: there is none.
    """

    parts: tuple[Steering, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InvalidInputError("no steering was given: give at least one")

    @property
    def coefficient(self) -> float:
        """Of the first."""
        return self.parts[0].coefficient

    @property
    def perturbation_ratio(self) -> float | None:
        """That of the one there is; of several it is not known beforehand, as it hangs on how they lie to each other."""
        return self.parts[0].perturbation_ratio if len(self.parts) == 1 else None

    def check(self, model: Any) -> None:
        """See `Steering.check`."""
        for part in self.parts:
            part.check(model)

    def graph(self, rows: Sequence[int] | None = None) -> InterventionGraph:
        """See `Steering.graph`."""
        return sum((part.graph(rows) for part in self.parts), InterventionGraph())

    @property
    def key(self) -> list[Any] | None:
        """See `Steering.key`; that of the one there is."""
        keys = [part.key for part in self.parts if part.key is not None]
        return None if not keys else keys[0] if len(keys) == 1 else ["together", *keys]
