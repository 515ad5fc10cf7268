"""``.safetensors``: the directions as one float32 tensor, everything else as JSON in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import write_bytes
from persona_interp.vectors.formats.record import describe, rebuild
from persona_interp.vectors.persona_vector import PersonaVector

_TENSOR = "directions"
_HEADER = "persona_interp"
_REMEDY = "restore the file or extract the vector again"


class SafetensorsFormat:
    """Vectors as a safetensors file: small, exact, quick to open."""

    suffix = ".safetensors"
    says_whose = True
    for_others = False

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically."""
        from safetensors.torch import save

        about = {**describe(vector), "trait": vector.trait, "responses": dict(vector.responses)}
        header = {_HEADER: json.dumps(about, allow_nan=False)}
        write_bytes(path, save({_TENSOR: vector.directions}, header))

    def read(self, path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read a file of ours.

        Raises:
            FileFormatError: damaged, or not a persona vector.
        """
        from safetensors import SafetensorError, safe_open

        source = f"vector file {path}"
        try:
            with safe_open(str(path), framework="pt") as file:
                header = file.metadata() or {}
                names = list(file.keys())
                tensor = file.get_tensor(_TENSOR) if _TENSOR in names else None
        except (SafetensorError, OSError) as error:
            raise FileFormatError(f"{source} cannot be read ({error}); it may be truncated: {_REMEDY}") from error
        about = _parse(header.get(_HEADER), source)
        if tensor is None or tensor.ndim != 2 or not tensor.is_floating_point():
            raise FileFormatError(f"{source} has no tensor {_TENSOR!r} of shape [layer, d_model], only {names}: {_REMEDY}")
        layers = about.get("layers")
        if not isinstance(layers, list) or len(layers) != tensor.shape[0] or not all(type(layer) is int for layer in layers):
            raise FileFormatError(f"{source} has {tensor.shape[0]} directions for layers {layers}: {_REMEDY}")
        return rebuild(
            about,
            tensor.float(),
            layers,
            trait=about.get("trait"),
            responses=about.get("responses") or {},
            source=source,
        )


def _parse(text: str | None, source: str) -> dict[str, Any]:
    if text is None:
        raise FileFormatError(f"{source} is a safetensors file, but not of a persona vector (its header has no {_HEADER!r})")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{source} has a damaged header ({error}): {_REMEDY}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{source} has a damaged header (a {type(value).__name__}): {_REMEDY}")
    return value
