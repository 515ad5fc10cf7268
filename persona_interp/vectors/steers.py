"""What steers: from directions, a dose and layers to an intervention, and to a model that is steered for as long as a block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.conditions import Condition
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add, Operation
from persona_interp.interventions.schedules import Schedule
from persona_interp.vectors.directions import Directions
from persona_interp.vectors.recorded import recorded_best
from persona_interp.vectors.validation import finite_number, layer_spans

Layers: TypeAlias = int | Sequence[int] | Literal["all"] | None
"""Where to steer: a layer, several, ``"all"`` of the vector's; None: the one recorded as the most effective."""


class Steers(Directions):
    """The part of a `PersonaVector` that steers."""

    @property
    @abstractmethod
    def norm_ratios(self) -> Float[Tensor, " layer"]:
        """Norm of each direction over the mean residual norm at its layer, NaN where that is not known."""

    @property
    @abstractmethod
    def effectiveness(self) -> tuple[float | None, ...]:
        """How well each layer steers, where that is recorded; else nothing."""

    def steering_layers(self, layers: Layers = None, *, first_layer: int = 0) -> tuple[int, ...]:
        """The layers that are meant by `layers`.

        Args:
            layers: see `Layers`.
            first_layer: the first at which the model can be steered (`SteerableModel.first_steerable_layer`).

        Raises:
            InvalidInputError: the vector lacks a layer asked for; or none was asked for and none is recorded, with what to do.
        """
        usable = tuple(layer for layer in self.layers if layer >= first_layer)
        if layers is None:
            scores = dict(zip(self.layers, self.effectiveness, strict=False))
            best = recorded_best(usable, [scores.get(layer) for layer in usable])
            if best is None:
                raise InvalidInputError(
                    f"{self.whose} records no best layer, and none was given: give layers=[...] of {layer_spans(self.layers)}, "
                    "have them scored (vector = layer_effectiveness(model, vector, trait).recorded_in(vector), which extract() "
                    "does by itself), take choose_layer(vector).layer to go by geometry, or say layers='all' to mean every one"
                )
            return (best,)
        if isinstance(layers, str):
            if layers != "all":
                raise InvalidInputError(f"layers is {layers!r}: give 0-based block indices such as [12], 'all', or None")
            return usable
        chosen = (layers,) if isinstance(layers, int) else tuple(dict.fromkeys(int(layer) for layer in layers))
        if not chosen:
            raise InvalidInputError(f"no layer was given to steer at: choose from {layer_spans(self.layers)}")
        for layer in chosen:
            self.row(layer)
        return chosen

    def coefficients(self, ratio: float | Tensor, layers: Sequence[int]) -> tuple[float, ...]:
        """What multiplies the direction at each of `layers` so that ``|coefficient * v|`` is `ratio` of the mean residual there.

        Raises:
            InvalidInputError: the ratio is no finite number, or the vector does not know the residual norm, or is zero.
        """
        number, known = finite_number(ratio, "the ratio"), self.norm_ratios
        found: list[float] = []
        for layer in layers:
            at_one = float(known[self.row(layer)])
            if not at_one > 0:
                raise InvalidInputError(
                    f"{self.whose} does not know the mean residual norm at layer {layer} (or is zero there), so a ratio has no "
                    "meaning: give a coefficient, or extract the vector again"
                )
            found.append(number / at_one)
        return tuple(found)

    def doses(self, coefficients: Sequence[float] | None, ratios: Sequence[float] | None) -> tuple[float, ...]:
        """Coefficients, given as such or as ratios at the one layer there is (`select`).

        Raises:
            InvalidInputError: both or neither were given, or ratios for several layers, which one coefficient does not give.
        """
        if (coefficients is None) == (ratios is None):
            raise InvalidInputError("give coefficients=[...], or ratios=[...] in their place: shares of the mean residual norm")
        if ratios is None:
            return tuple(coefficients or ())
        if len(self.layers) != 1:
            raise InvalidInputError(
                f"ratios were given for {len(self.layers)} layers ({layer_spans(self.layers)}), each of which needs another "
                "coefficient for them: name one layer, give coefficients, or use plan_layers()"
            )
        return tuple(self.coefficients(ratio, self.layers)[0] for ratio in ratios)

    def graph(
        self,
        coefficient: float | Tensor | None = None,
        layers: Layers = None,
        positions: Literal["all", "prompt", "response"] = "all",
        rows: Sequence[int] | None = None,
        *,
        ratio: float | Tensor | None = None,
        operation: Callable[[Tensor], Operation] = Add,
        condition: Callable[[Tensor], Condition] | Condition | None = None,
        schedule: Schedule | None = None,
    ) -> InterventionGraph:
        """The intervention that adds ``coefficient * direction`` to the output of each block, or does something else with it.

        Example:
            >>> vector.graph(1.5, layers=[12])
            >>> vector.graph(ratio=0.4)  # at the layer recorded as the best one
            >>> vector.graph(layers=[12], operation=Ablate)
            >>> vector.graph(layers=[12], operation=lambda direction: Cap(direction, bound=4.0))
            >>> vector.graph(-1.5, layers=[12], condition=lambda direction: ProjectionCondition(direction, threshold=2.0))

        Args:
            coefficient: multiplies the vector as it is, whatever its norm; for `Ablate`, `Clamp` and `Cap` from 0 to 1. 1 if
                neither it nor `ratio` is given.
            layers: which blocks: one, several, or ``"all"`` of the vector's; None: the most effective, where that is recorded.
            positions: which tokens: ``all``; ``prompt``; ``response``, which starts at the last prompt token, because that one
                predicts the first answer token.
            rows: which rows of the batch; all if None.
            ratio: in place of the coefficient: how large what is added is at each layer, as a share of the mean residual norm
                there. 0.3 to 0.5 is usually safe; negative turns the trait round.
            operation: what to do with the direction of each layer: called with it, returns the operation.
            condition: where to do it, by row and position: one condition for every layer, or called with each layer's direction.
            schedule: how the coefficient changes while an answer is generated.

        Raises:
            InvalidInputError: a dose that is no finite number, or two; a layer the vector lacks, or none where none is recorded.
        """
        if coefficient is not None and ratio is not None:
            raise InvalidInputError(f"both coefficient={coefficient} and ratio={ratio} were given: give one of them")
        number = finite_number(1.0 if coefficient is None else coefficient, "the coefficient")
        chosen = self.steering_layers(layers)
        doses = (number,) * len(chosen) if ratio is None else self.coefficients(ratio, chosen)
        chosen_rows = None if rows is None else tuple(rows)
        writes: list[Write] = []
        for layer, dose in zip(chosen, doses, strict=True):
            direction = self.at(layer).to(device="cpu", dtype=torch.float32)
            made = operation(direction)
            if ratio is not None and made.coefficient_range is not None:
                raise InvalidInputError(f"operation {made.kind!r} takes a share from 0 to 1, not a ratio: give coefficient=1")
            where = condition(direction) if callable(condition) else condition
            writes.append(Write(layer, made, dose, positions, chosen_rows, where, schedule))
        return InterventionGraph(tuple(writes))

    def steer(
        self,
        model: Any,
        coefficient: float | Tensor | None = None,
        layers: Layers = None,
        positions: Literal["all", "prompt", "response"] = "all",
        *,
        ratio: float | Tensor | None = None,
        operation: Callable[[Tensor], Operation] = Add,
    ) -> AbstractContextManager[Any]:
        """Steer a model for as long as a ``with`` block lasts; see `graph` for the arguments.

        Conditions and schedules: ``model.steer(vector.graph(...))``, or `steered` for a bare model.

        Example:
            >>> with vector.steer(model, 0.5):
            ...     print(model.generate("How are you?")[0])
            >>> with vector.steer(hf_model, ratio=0.4, layers=[12]):
            ...     hf_model.generate(**tokenizer("How are you?", return_tensors="pt"))

        Args:
            model: a `SteerableModel`, whose verbs and whose ``hf_model`` are steered alike within the block, by whoever calls
                them; or a bare Hugging Face model of a known architecture (`steered`).

        Raises:
            InvalidInputError: as `graph`.
            IncompatibleError: the vector is of another width, or of layers that the model lacks.
        """
        from persona_interp.models.standing import standing

        if layers is None or layers == "all":
            layers = self.steering_layers(layers, first_layer=int(getattr(model, "first_steerable_layer", 0)))
        return standing(model, self.graph(coefficient, layers, positions, ratio=ratio, operation=operation))
