"""Steering at several layers at once: coefficients that follow each layer's importance, under one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.measure.effectiveness import LayerEffectiveness
from persona_interp.measure.layer_proxies import known_ratios
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering


@dataclass(frozen=True)
class LayerPlan:
    """A coefficient for each of several layers.

    Attributes:
        coefficients: layer -> multiplies the vector there, at the whole budget.
        budget: sum over the layers of the perturbation ratios.
    """

    coefficients: Mapping[int, float]
    budget: float

    @property
    def layers(self) -> tuple[int, ...]:
        """0-based blocks, ascending."""
        return tuple(self.coefficients)

    def graph(
        self,
        vector: PersonaVector,
        strength: float = 1.0,
        *,
        positions: Literal["all", "prompt", "response"] = "all",
        rows: Sequence[int] | None = None,
    ) -> InterventionGraph:
        """The plan as an intervention.

        Args:
            vector: what is added.
            strength: multiplies every coefficient; negative turns the trait round.
            positions: which tokens.
            rows: which rows of the batch; all if None.
        """
        return replace(self.steering(vector, strength), positions=positions).graph(rows)

    def steering(self, vector: PersonaVector, strength: float = 1.0) -> Steering:
        """The plan as steering with a vector, at `strength` times its budget."""
        return Steering(vector, self.layers, strength, weights=tuple(self.coefficients.values()))

    def _repr_html_(self) -> str:
        """In a notebook: a row for each layer."""
        columns = {"layer": self.layers, "coefficient": list(self.coefficients.values())}
        return html_table(f"{self.budget:g} of the mean residual norm, spread over the layers", columns, bars="coefficient")

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"coefficients": {str(layer): value for layer, value in self.coefficients.items()}, "budget": self.budget}


def plan_layers(vector: PersonaVector, effectiveness: LayerEffectiveness, *, budget: float = 0.5, k: int | None = 3) -> LayerPlan:
    """Spread one budget over the layers that matter, in proportion to their scores.

    A layer's share of the budget is its perturbation ratio, so a layer with large residuals gets a larger coefficient for the
    same share. Ratios of different layers add up, as what is written early is still in the stream later.

    Args:
        vector: knows the residual norms.
        effectiveness: of this vector's trait; layers that score 0 or less get nothing.
        budget: sum of the perturbation ratios; 0.3 to 0.5 is usually safe at one layer.
        k: how many of the best layers; all that score above 0 if None.

    Example:
        >>> plan = plan_layers(vector, layer_effectiveness(model, vector, trait), budget=0.5)
        >>> model.generate(conversations, graph=plan.graph(vector))

    Raises:
        InvalidInputError: the budget is not above 0, no layer scores above 0, or the vector lacks residual norms.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise InvalidInputError(f"the budget is {budget}: give a sum of perturbation ratios above 0, for example 0.5")
    importance = effectiveness.importance()
    chosen = sorted(importance, key=lambda layer: (-importance[layer], layer))[: len(importance) if k is None else k]
    total = sum(importance[layer] for layer in chosen)
    ratios = known_ratios(vector.select(chosen))
    return LayerPlan({layer: budget * importance[layer] / total / ratios[layer] for layer in sorted(chosen)}, budget)
