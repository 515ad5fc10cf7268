"""``.pt``: the tensors of the original code, ``[n_layers + 1, d_model]``.

Row 0 is the embedding layer and row ``i + 1`` the output of block ``i``, so that its "layer 20" is our layer 19. We keep blocks
only: row 0 is dropped on reading and written as zeros. Such a file cannot say that a layer is missing, nor whose vector it is.

The original code stacks Hugging Face's hidden states, the last of which is taken after the final norm: it is not the output of
the last block, and is left out on reading. Files of ours, told by the zeros of row 0, hold the output of the last block itself.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.progress import say
from persona_interp.storage import write_bytes
from persona_interp.vectors.basis import READ_FROM_PT
from persona_interp.vectors.formats.record import check_finite
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import layer_spans


class PtFormat:
    """Vectors as bare PyTorch tensors, read with ``weights_only=True``."""

    suffix = ".pt"
    says_whose = False
    for_others = False

    def write(self, vector: PersonaVector, path: Path) -> None:
        """Write atomically, and say in what the last row differs from that of the original code.

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
        say(
            f"note: the last row of {path} is of the output of block {vector.layers[-1]} before the final norm; files of the "
            "original code have it after the norm"
        )

    def read(self, path: Path, *, model: str | ModelIdentity | None = None, trait: str | None = None) -> PersonaVector:
        """Read a tensor; `model` and `trait` say whose it is, and are ``unknown`` if not given.

        The last row of a file whose row 0 is not zeros is left out, and that is said.

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
        n_layers, width = rows.shape[0] - 1, rows.shape[1]
        ours = not rows[0].any()
        directions = rows[1:].float() if ours else rows[1:-1].float()
        check_finite(directions, range(len(directions)), source)
        if isinstance(model, ModelIdentity):
            identity = model
        else:
            identity = ModelIdentity(name=model or "unknown", revision=None, fingerprint="", n_layers=n_layers, d_model=width)
        if (identity.n_layers, identity.d_model) != (n_layers, width):
            missing = ", or put a row of zeros first if it has none for the embeddings" if len(rows) == identity.n_layers else ""
            raise FileFormatError(
                f"{source} is of a model with {n_layers} layers of width {width}, but {identity.name} has "
                f"{identity.n_layers} of width {identity.d_model}: load it with the model it was made from{missing}"
            )
        if not len(directions):
            raise FileFormatError(f"{source} holds the embeddings and the last hidden state only: give one with more layers")
        left_out = (
            "" if ours else f"layer {n_layers - 1}: its row is of the last hidden state, which is taken after the final norm"
        )
        if left_out:
            say(f"note: {source} has no {left_out}, and is left out")
        return PersonaVector(
            directions=directions,
            layers=tuple(range(len(directions))),
            trait=trait or "unknown",
            model=identity,
            provenance={"read_from": READ_FROM_PT, **({"left_out": left_out} if left_out else {})},
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
