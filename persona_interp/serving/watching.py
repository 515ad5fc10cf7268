"""Projections onto personas, read while an answer is made and told beside it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from persona_interp.serving.errors import ApiError
from persona_interp.serving.job import Done, Watch
from persona_interp.serving.personas import Personas
from persona_interp.serving.schema import MonitorField
from persona_interp.vectors.layer_choice import choose_layer


def watches(field: MonitorField | None, personas: Personas) -> tuple[Watch, ...]:
    """What a request wants to be read.

    Raises:
        ApiError: an unknown persona, or one whose direction is zero.
        PersonaInterpError: a vector lacks the layer.
    """
    if field is None:
        return ()
    found: list[Watch] = []
    for name in field.personas:
        vector = personas.find(name, "monitor").vector
        layer = choose_layer(vector).layer if field.layer is None else field.layer
        direction = vector.at(layer).float()
        if not float(direction.norm()) > 0:
            raise ApiError(f"persona {name!r} is zero at layer {layer}: name another with monitor.layer", param="monitor")
        found.append(Watch(name, layer, direction / direction.norm()))
    return tuple(found)


def projections(index: int, watched: tuple[Watch, ...], done: Done, *, per_token: bool) -> list[dict[str, Any]]:
    """What is told of one answer: ``h . v / |v|`` at the last prompt token and over the answer, in units of the residual stream.

    The last token of an answer never passes through the model, so there is no value of it.
    """
    told: list[dict[str, Any]] = []
    for watch, values in zip(watched, done.readings, strict=False):
        entry: dict[str, Any] = {
            "index": index,
            "persona": watch.name,
            "layer": watch.layer,
            "prompt_last": values[0],
            "answer_mean": fmean(values[1:]) if len(values) > 1 else None,
        }
        told.append(entry | ({"tokens": list(values[1:])} if per_token else {}))
    return told
