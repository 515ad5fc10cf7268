"""``.pt``: the tensors of the original code, ``[n_layers + 1, d_model]``.

Row 0 is the embedding layer and row ``i + 1`` the output of block ``i``, so that its "layer 20" is our layer 19. We keep blocks
only: row 0 is dropped on reading and written as zeros. Such a file cannot say that a layer is missing, nor whose vector it is.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import write_bytes
from persona_interp.vectors.formats.record import check_finite
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import layer_spans


class PtFormat:
    """Vectors as bare PyTorch tensors, read with ``weights_only=True``."""

    suffix = ".pt"
    says_whose = False

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically.

        Raises:
            InvalidInputError: the vector does not cover every layer of its model.
        """
        if len(vector.layers) != vector.model.n_layers:
            raise InvalidInputError(
                f"cannot write {path}: the vector {vector.trait!r} has layers {layer_spans(vector.layers)} of the "
                f"{vector.model.n_layers} of {vector.model.name}, and a .pt file "
                "cannot leave layers out. Save it as .json or .safetensors"
            )
        rows = torch.cat([torch.zeros(1, vector.d_model, dtype=vector.directions.dtype), vector.directions])
        content = BytesIO()
        torch.save(rows, content)
        write_bytes(path, content.getvalue())

    def read(self, path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read a tensor; `model` and `trait` say whose it is, and are ``unknown`` if not given.

        Raises:
            FileFormatError: damaged, not a bare tensor of two axes, or with NaN or infinite values.
        """
        source = f"vector file {path}"
        rows = _tensor(path, source)
        if (
            not isinstance(rows, torch.Tensor)
            or rows.ndim != 2
            or rows.shape[0] < 2
            or not rows.shape[1]
            or not rows.is_floating_point()
        ):
            said = f"a tensor of shape {list(rows.shape)}" if isinstance(rows, torch.Tensor) else f"a {type(rows).__name__}"
            raise FileFormatError(
                f"{source} holds {said}, expected one tensor [n_layers + 1, d_model] with the embeddings in row 0"
            )
        directions = rows[1:].float()
        n_layers, width = directions.shape
        check_finite(directions, range(n_layers), source)
        if isinstance(model, ModelIdentity):
            identity = model
        else:
            identity = ModelIdentity(name=model or "unknown", revision=None, fingerprint="", n_layers=n_layers, d_model=width)
        if (identity.n_layers, identity.d_model) != (n_layers, width):
            raise FileFormatError(
                f"{source} is of a model with {n_layers} layers of width {width}, but {identity.name} has "
                f"{identity.n_layers} of width {identity.d_model}: load it with the model it was made from"
            )
        return PersonaVector(
            directions=directions,
            layers=tuple(range(n_layers)),
            trait=trait or "unknown",
            model=identity,
            provenance={"read_from": "a .pt tensor"},
        )


def _tensor(path: Path, source: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        # torch's own words advise to load the file without its guard, which is not what someone with a stranger's file should do
        if type(error).__name__ == "UnpicklingError":
            raise FileFormatError(
                f"{source} holds something other than a tensor, which is not loaded because it could run code, or is damaged: "
                "save it again as a bare tensor"
            ) from error
        reason = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
        raise FileFormatError(
            f"{source} cannot be read as a tensor ({reason}); it may be truncated: restore the file or extract the vector again"
        ) from error
