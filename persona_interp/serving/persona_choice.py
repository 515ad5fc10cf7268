"""From what a request says of personas to what is done to the residual stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.operations import OPERATIONS, Cap, direction_operations
from persona_interp.serving.errors import ApiError
from persona_interp.serving.personas import Persona, Personas
from persona_interp.serving.schema import PersonaField
from persona_interp.vectors.layer_choice import choose_layer

_NAMED = re.compile(r"(?P<name>[^:]+)(?::(?P<number>[-+]?(?:\d+\.?\d*|\.\d+))(?P<ratio>r?))?")


@dataclass(frozen=True, eq=False)
class Chosen:
    """One persona as a request uses it.

    Attributes:
        persona: the persona.
        layers: 0-based blocks.
        graph: what is written.
        said: what the answer says of it.
    """

    persona: Persona
    layers: tuple[int, ...]
    graph: InterventionGraph
    said: dict[str, Any]


def named(model: str, served: str) -> list[PersonaField]:
    """The personas in the name of a model: ``M``, ``M@silly``, ``M@silly:0.8``, ``M@silly:0.4r+calm:-1``.

    A number is a coefficient, with an ``r`` behind it a perturbation ratio.

    Raises:
        ApiError: another model, or a name that cannot be read.
    """
    base, at, personas = model.rpartition("@") if "@" in model and model != served else (model, "", "")
    if base != served:
        forms = f"{served!r}, or with a persona {served + '@NAME:COEFFICIENT'!r}"
        raise ApiError(f"there is no model {model!r} here: ask for {forms}", 404, code="model_not_found", param="model")
    if not at:
        return []
    found: list[PersonaField] = []
    for part in re.split(r"\+(?=[^\d.])", personas):  # not the sign of a number
        match = _NAMED.fullmatch(part)
        if match is None:
            raise ApiError(f"{part!r} in model {model!r} is no persona: write NAME, NAME:0.8 or NAME:0.4r", param="model")
        number = None if match["number"] is None else float(match["number"])
        dose: dict[str, Any] = {} if number is None else {"ratio" if match["ratio"] else "coefficient": number}
        found.append(PersonaField(name=match["name"], **dose))
    return found


def chosen(field: PersonaField, personas: Personas, first_layer: int) -> Chosen:
    """What a request asks of one persona.

    Args:
        field: as it says it.
        personas: those there are.
        first_layer: the first the engine can write to.

    Raises:
        ApiError: an unknown persona or operation, or numbers that do not go together.
        PersonaInterpError: layers the vector does not have, or a dose that makes no sense.
    """
    persona = personas.find(field.name, "persona")
    vector = persona.vector
    if field.layers is None:
        layers: tuple[int, ...] = (choose_layer(vector, first_layer).layer,)
    else:
        layers = tuple(sorted(vector.steering_layers(field.layers, first_layer=first_layer)))
    if field.coefficient is not None and field.ratio is not None:
        raise ApiError(f"persona {field.name!r} has a coefficient and a ratio: give one of them", param="persona")
    if field.operation == "cap":
        graph = _kept_within(field, persona, layers)
    elif field.operation == "clamp":
        if field.projection is None:
            raise ApiError("operation 'clamp' needs the projection to bring to: persona.projection", param="persona")
        clamp, value = OPERATIONS["clamp"], field.projection
        graph = vector.graph(field.coefficient, layers, field.positions, operation=lambda way: clamp(way, value))  # pyright: ignore[reportCallIssue]
    elif field.operation in direction_operations():
        kind = OPERATIONS[field.operation]
        graph = vector.graph(field.coefficient, layers, field.positions, ratio=field.ratio, operation=kind)  # pyright: ignore[reportArgumentType]
    else:
        known = ", ".join((*direction_operations(), "cap", "clamp"))
        raise ApiError(f"operation {field.operation!r} is not known: use one of {known}", param="persona")
    if field.coefficient == 0 or field.ratio == 0:
        graph = InterventionGraph()
    said = {"name": persona.name, "layers": list(layers), "operation": field.operation, "positions": field.positions}
    return Chosen(persona, layers, graph, said)


def _kept_within(field: PersonaField, persona: Persona, layers: Sequence[int]) -> InterventionGraph:
    """A persona kept within a range of projections: capped along its direction, and along the negated one."""
    low, high = field.range or (None, None)
    if field.ratio is not None or (low is None and high is None) or (low is not None and high is not None and low > high):
        raise ApiError(
            f"operation 'cap' keeps projections within persona.range = [low, high] (null: no bound), got {field.range}; "
            "it takes no ratio",
            param="persona",
        )
    graph, positions = InterventionGraph(), field.positions
    if high is not None:
        graph += _capped(persona.vector, field.coefficient, layers, positions, high)
    if low is not None:
        graph += _capped(-persona.vector, field.coefficient, layers, positions, -low)
    return graph


def _capped(
    vector: Any, share: float | None, layers: Sequence[int], positions: Literal["all", "prompt", "response"], bound: float
) -> InterventionGraph:
    return vector.graph(share, layers, positions, operation=lambda way: Cap(way, bound))
