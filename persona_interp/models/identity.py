"""Which weights a result belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.errors import FileFormatError
from persona_interp.models.families import text_config

_SAMPLES = 256
_CONFIG_ESSENTIALS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "rope_theta",
    "rope_parameters",
    "rms_norm_eps",
    "layer_norm_epsilon",
    "sliding_window",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class ModelIdentity:
    """A model as a result names it.

    Attributes:
        name: as it was loaded: hub id, short name or folder name.
        revision: of the hub repository, None if it was not given.
        fingerprint: sha256 over configuration and weights, see `fingerprint`.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        weights_file: fingerprint of the GGUF file that holds the weights (`gguf_file.file_fingerprint`), whatever runs it; None
            for weights from elsewhere.
    """

    name: str
    revision: str | None
    fingerprint: str
    n_layers: int
    d_model: int
    weights_file: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values; a file that there is none of is left out, as in results of earlier versions."""
        return {name: value for name, value in asdict(self).items() if name != "weights_file" or value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "model identity") -> ModelIdentity:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: a field is missing or of the wrong type; names it.
        """
        text, number = ("text", str), ("an integer", int)
        kinds = {
            "name": text,
            "revision": ("text or null", str | None),
            "fingerprint": text,
            "n_layers": number,
            "d_model": number,
        }
        for field, (expected, kind) in kinds.items():
            if field not in data:
                raise FileFormatError(f"{source}: field {field!r} is missing")
            if not isinstance(data[field], kind) or isinstance(data[field], bool):
                raise FileFormatError(f"{source}: field {field!r} is {data[field]!r}, expected {expected}")
        file = data.get("weights_file")
        if not isinstance(file, str | None):
            raise FileFormatError(f"{source}: field 'weights_file' is {file!r}, expected text or null")
        return cls(**{field: data[field] for field in kinds}, weights_file=file)


def fingerprint(hf_model: nn.Module) -> str:
    """sha256 over the essentials of the configuration and the names, shapes and sampled values of all parameters.

    Where values are not at hand, as in a run on NDIF, the name of the checkpoint stands for them.

    Up to 256 evenly spaced values of each parameter are taken, as float32, so a 7B model takes about a second, and weights
    stored in bfloat16 have the same fingerprint whether they are loaded as bfloat16 or as float32. Training changes it;
    editing a few single weights may not.
    """
    digest = hashlib.sha256()
    config: Any = hf_model.config
    config = text_config(config)
    essentials = {key: getattr(config, key, None) for key in _CONFIG_ESSENTIALS}
    digest.update(json.dumps(essentials, sort_keys=True, default=str).encode())
    if any(parameter.is_meta for parameter in hf_model.parameters()):
        digest.update(str(getattr(hf_model, "name_or_path", "")).encode())
    for name, parameter in sorted(hf_model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(_sample(parameter).numpy().tobytes())
    return digest.hexdigest()


def _sample(parameter: Tensor) -> Tensor:
    values = parameter.detach().reshape(-1)
    if values.is_meta:  # offloaded: its values are not at hand
        return torch.empty(0)
    step = max(1, -(-values.numel() // _SAMPLES))
    return values[::step].to(device="cpu", dtype=torch.float32)
