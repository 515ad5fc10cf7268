"""``.json``: a superset of the schema other programs write; theirs are read too.

That schema is ``model_id, trait_id, generated_at, generation_time, vectors, effectiveness_scores, metadata, responses``.

A float32 is written with the digits of its exact double, so that reading gives the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import read_json, write_json
from persona_interp.vectors.formats.record import check_finite, describe, rebuild
from persona_interp.vectors.persona_vector import PersonaVector

_LAYER = re.compile(r"layer_(0|[1-9]\d*)")
_REQUIRED = ("model_id", "trait_id", "vectors")
_REMEDY = "restore the file or extract the vector again"


class JsonFormat:
    """Vectors as JSON text: readable anywhere, about 20 bytes a value."""

    suffix = ".json"
    says_whose = True
    for_others = False

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically."""
        effectiveness = vector.effectiveness
        write_json(
            path,
            {
                "model_id": vector.model.name,
                "trait_id": vector.trait,
                "generated_at": vector.provenance.get("created"),
                "generation_time": vector.provenance.get("seconds"),
                "vectors": {_key(layer): row.tolist() for layer, row in zip(vector.layers, vector.directions, strict=True)},
                # Empty unless steering was measured: separation of the two classes does not say how well a layer steers.
                "effectiveness_scores": dict(zip(map(_key, vector.layers), effectiveness, strict=False)),
                "metadata": {"num_layers_processed": len(vector.layers), **vector.provenance.get("metadata", {})},
                "responses": dict(vector.responses),
                **describe(vector),
            },
        )

    def read(self, path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read our own files and those with the shared fields only.

        Raises:
            FileFormatError: missing fields, rows of unequal width, values that are no finite numbers (names layer and count).
        """
        source = f"vector file {path}"
        value = read_json(path, "vector file")
        if missing := [name for name in _REQUIRED if name not in value]:
            raise FileFormatError(f"{source} has no field {', '.join(map(repr, missing))}: {_REMEDY}")
        layers, directions = _directions(value["vectors"], source)
        responses = _mapping(value, "responses", source)
        if "format_version" not in value:
            return _foreign(value, layers, directions, responses, source)
        if value.get("layers") != list(layers):
            raise FileFormatError(
                f"{source} says it has layers {value.get('layers')}, but its vectors are of {list(layers)}: {_REMEDY}"
            )
        vector = rebuild(value, directions, layers, trait=value["trait_id"], responses=responses, source=source)
        if value["model_id"] != vector.model.name:
            raise FileFormatError(f"{source} says model {value['model_id']!r} and also {vector.model.name!r}: {_REMEDY}")
        return vector


def _key(layer: int) -> str:
    return f"layer_{layer}"


def _directions(vectors: object, source: str) -> tuple[tuple[int, ...], Float[Tensor, "layer d_model"]]:
    if not isinstance(vectors, Mapping) or not vectors:
        raise FileFormatError(f"{source}: 'vectors' must be an object with at least one 'layer_0', 'layer_1', ...: {_REMEDY}")
    rows: dict[int, list[float]] = {}
    for key, row in vectors.items():
        match = _LAYER.fullmatch(str(key))
        if not match:
            raise FileFormatError(f"{source}: 'vectors' has the key {key!r}, expected 'layer_' and a 0-based number: {_REMEDY}")
        wrong = "no list" if not isinstance(row, list) else _wrong_entries(row)
        if wrong:
            raise FileFormatError(f"{source}: {key} holds {wrong}, expected a list of finite numbers: {_REMEDY}")
        rows[int(match.group(1))] = row
    layers = tuple(sorted(rows))
    widths = {len(row) for row in rows.values()}
    if len(widths) > 1 or 0 in widths:
        said = ", ".join(f"layer {layer}: {len(rows[layer])}" for layer in layers)
        raise FileFormatError(f"{source}: directions have unequal or no width ({said}): {_REMEDY}")
    try:
        return layers, torch.tensor([rows[layer] for layer in layers], dtype=torch.float64).float()
    except (OverflowError, RuntimeError) as error:
        raise FileFormatError(f"{source} holds an integer too large for a direction: {_REMEDY}") from error


def _wrong_entries(row: list[Any]) -> str:
    wrong = [entry for entry in row if type(entry) not in (float, int)]
    return f"{len(wrong)} entries that are no numbers (the first is {wrong[0]!r})" if wrong else ""


def _mapping(value: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    found = value.get(name) or {}
    if not isinstance(found, Mapping):
        raise FileFormatError(f"{source}: {name!r} is a {type(found).__name__}, expected an object: {_REMEDY}")
    return dict(found)


def _foreign(
    value: Mapping[str, Any],
    layers: tuple[int, ...],
    directions: Float[Tensor, "layer d_model"],
    responses: dict[str, Any],
    source: str,
) -> PersonaVector:
    """A file with the shared fields only, which does not say how many layers the model has: those seen are taken for all."""
    check_finite(directions, layers, source)
    scores = _mapping(value, "effectiveness_scores", source)
    statistics: dict[str, tuple[float | None, ...]] = {}
    if scores:
        found = [scores.get(_key(layer)) for layer in layers]
        if wrong := [score for score in found if score is not None and type(score) not in (float, int)]:
            raise FileFormatError(f"{source}: 'effectiveness_scores' holds {wrong[0]!r}, expected numbers: {_REMEDY}")
        statistics["effectiveness"] = tuple(None if score is None else float(score) for score in found)
    return PersonaVector(
        directions=directions,
        layers=layers,
        trait=str(value["trait_id"]),
        model=ModelIdentity(
            name=str(value["model_id"]), revision=None, fingerprint="", n_layers=layers[-1] + 1, d_model=directions.shape[1]
        ),
        statistics=statistics,
        provenance={
            "created": value.get("generated_at"),
            "seconds": value.get("generation_time"),
            "metadata": _mapping(value, "metadata", source),
            "read_from": "a file without format_version",
        },
        responses=responses,
    )
