"""``.gguf``: control vectors as llama.cpp and repeng read them, one float32 tensor ``direction.N`` a layer.

``direction.N`` is added to the output of the 0-based block N, so N is our layer number. Block 0 has none: llama.cpp never adds a
vector there, and its loader refuses ``direction.0``. Files that llama.cpp's own generator writes are numbered one block late:
what it read at the output of block N - 1 it calls ``direction.N``.

Beside the fields other programs ask for (``controlvector.model_hint``, ``controlvector.layer_count``), files of ours hold all
else that is known about the vector, which other programs pass over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.engines.llama_cpp.library import gguf
from persona_interp.models.gguf_file import GgufHeader, GgufTensor, read_header
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.names import is_architecture
from persona_interp.progress import say
from persona_interp.storage import write_atomically
from persona_interp.vectors.formats.record import check_finite, describe, rebuild
from persona_interp.vectors.persona_vector import PersonaVector

ARCHITECTURE = "controlvector"
_ABOUT = "persona_interp.vector"
_DIRECTION = re.compile(r"direction\.(0|[1-9]\d*)")
_FLOAT32 = 0
_REMEDY = "restore the file or export it again"


@dataclass(frozen=True)
class GgufFormat:
    """Control vectors of llama.cpp.

    Attributes:
        generator_offset: read a file of llama.cpp's own generator, whose numbers are one block late.
        model_hint: what other programs are told of the model, for them its architecture; None: its name.
    """

    suffix = ".gguf"
    says_whose = True  # or is told, and then agrees
    for_others = True

    generator_offset: bool = False
    model_hint: str | None = None

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically. Layer 0 is left out, and that is said.

        Raises:
            InvalidInputError: the vector has no other layer.
            MissingExtraError: the extra ``gguf`` is not installed.
        """
        layers = [layer for layer in vector.layers if layer > 0]
        if not layers:
            raise InvalidInputError(
                f"cannot write {path}: the vector {vector.trait!r} has layer 0 only, where llama.cpp adds no control vector. "
                "Save it as .json or .safetensors"
            )
        if len(layers) < len(vector.layers):
            say(f"layer 0 is left out of {path}: llama.cpp adds no control vector there")
            vector = vector.select(layers)
        about = {**describe(vector), "trait": vector.trait, "responses": dict(vector.responses)}
        library = gguf()

        def fill(target: Path) -> None:
            writer = library.GGUFWriter(str(target), ARCHITECTURE)
            writer.add_string(f"{ARCHITECTURE}.model_hint", self.model_hint or vector.model.name)
            writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vector.layers))
            writer.add_string(_ABOUT, json.dumps(about, allow_nan=False))
            for layer, row in zip(vector.layers, vector.directions, strict=True):
                writer.add_tensor(f"direction.{layer}", row.numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

        write_atomically(path, fill)

    def read(self, path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read our own files and those of other programs, which `model` and `trait` then say whose they are.

        Raises:
            FileFormatError: damaged, no control vector, or one that llama.cpp itself would refuse.
            MissingExtraError: the extra ``gguf`` is not installed.
        """
        source = f"vector file {path}"
        header = read_header(path)
        architecture = header.metadata.get("general.architecture")
        if architecture != ARCHITECTURE:
            raise FileFormatError(
                f"{source} is a GGUF file of kind {architecture!r}, not {ARCHITECTURE!r}: give a control vector"
            )
        layers, directions = _directions(header, source)
        if self.generator_offset:
            layers = tuple(layer - 1 for layer in layers)
        about = header.metadata.get(_ABOUT)
        if about is None:
            return _foreign(header, layers, directions, model, trait, source)
        if self.generator_offset:
            raise FileFormatError(
                f"{source} was written by this package, not by llama.cpp's generator: read it without the offset"
            )
        return _ours(about, layers, directions, source)


def _directions(header: GgufHeader, source: str) -> tuple[tuple[int, ...], Float[Tensor, "layer d_model"]]:
    rows: dict[int, Float[Tensor, " d_model"]] = {}
    for tensor in header.tensors:
        match = _DIRECTION.fullmatch(tensor.name)
        if match is None:
            raise FileFormatError(f"{source} has a tensor {tensor.name!r}, expected 'direction.1', 'direction.2', ...: {_REMEDY}")
        if int(match.group(1)) == 0:
            raise FileFormatError(
                f"{source} has a tensor 'direction.0', which llama.cpp refuses: block 0 takes no control vector. Export it again "
                "without it"
            )
        if tensor.kind != _FLOAT32 or len(tensor.shape) != 1:
            raise FileFormatError(
                f"{source}: {tensor.name!r} is of type {tensor.kind} and shape {list(tensor.shape)}, expected float32 values in "
                f"one dimension: {_REMEDY}"
            )
        rows[int(match.group(1))] = _values(header.path, tensor)
    if len({len(row) for row in rows.values()}) != 1:
        said = ", ".join(f"direction.{number}: {len(row)}" for number, row in sorted(rows.items()))
        raise FileFormatError(f"{source}: directions have unequal widths, or there is none ({said}): {_REMEDY}")
    layers = tuple(sorted(rows))
    return layers, torch.stack([rows[layer] for layer in layers])


def _values(path: Path, tensor: GgufTensor) -> Float[Tensor, " d_model"]:
    with path.open("rb") as file:
        file.seek(tensor.offset)
        return torch.from_numpy(np.frombuffer(file.read(4 * tensor.shape[0]), dtype="<f4").astype(np.float32))


def _ours(about: Any, layers: Sequence[int], directions: Float[Tensor, "layer d_model"], source: str) -> PersonaVector:
    try:
        value = json.loads(about)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{source} has a damaged header ({error}): {_REMEDY}") from error
    if not isinstance(value, dict) or value.get("layers") != list(layers):
        said = value.get("layers") if isinstance(value, dict) else type(value).__name__
        raise FileFormatError(f"{source} says it has layers {said}, but its directions are of {list(layers)}: {_REMEDY}")
    return rebuild(value, directions, layers, trait=value.get("trait"), responses=value.get("responses") or {}, source=source)


def _foreign(
    header: GgufHeader,
    layers: tuple[int, ...],
    directions: Float[Tensor, "layer d_model"],
    model: str | ModelIdentity | None,
    trait: str | None,
    source: str,
) -> PersonaVector:
    """A file that does not say how many layers the model has: those seen are taken for all, unless the model is given.

    Other programs hint at an architecture, which names no model: whose it is stays unknown, and the hint is kept to be compared.
    """
    check_finite(directions, layers, source)
    width, hint = directions.shape[1], header.metadata.get(f"{ARCHITECTURE}.model_hint")
    if isinstance(model, ModelIdentity):
        if model.d_model != width or layers[-1] >= model.n_layers:
            raise FileFormatError(
                f"{source} has directions of width {width} up to layer {layers[-1]}, but {model.name} has {model.n_layers} "
                f"layers of width {model.d_model}: load it with the model it was made from"
            )
        identity = model
        if layers[-1] == model.n_layers - 1:
            say(
                f"note: {source}: programs that read Hugging Face's hidden states (repeng) take the last block's after the final "
                f"norm; direction.{layers[-1]} may not be of the output of block {layers[-1]}"
            )
    else:
        named = isinstance(hint, str) and hint and not is_architecture(hint)
        name = model or (str(hint) if named else "unknown")
        identity = ModelIdentity(name=name, revision=None, fingerprint="", n_layers=layers[-1] + 1, d_model=width)
    return PersonaVector(
        directions=directions,
        layers=layers,
        trait=trait or "unknown",
        model=identity,
        provenance={"read_from": "a llama.cpp control vector", "model_hint": hint},
    )
