"""Which weights a result belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.models.adapters import adapter_settings, effective_names
from persona_interp.models.families import text_config
from persona_interp.models.placement import value_at_hand
from persona_interp.records import Record

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
class ModelIdentity(Record):
    """A model as a result names it.

    Attributes:
        name: as it was loaded: hub id, short name or folder name.
        revision: of the hub repository, None if it was not given.
        fingerprint: sha256 over configuration and weights, see `fingerprint`.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        weights_file: fingerprint of the GGUF file that holds the weights (`gguf_file.file_fingerprint`), whatever runs it; None
            for weights from elsewhere. Not compared: equal fingerprints are equal weights, whatever they were read from.
    """

    json_kind = "model identity"
    json_newer = ("weights_file",)

    name: str
    revision: str | None
    fingerprint: str
    n_layers: int
    d_model: int
    weights_file: str | None = field(default=None, compare=False)

    def json_items(self) -> dict[str, Any]:
        """A file that there is none of is left out, as in results of earlier versions."""
        return {name: value for name, value in super().json_items().items() if name != "weights_file" or value is not None}


def fingerprint(hf_model: nn.Module) -> str:
    """sha256 over the essentials of the configuration and the names, shapes and sampled values of all parameters.

    It is the same wherever the weights lie, offloaded ones too. Where values are not at hand, as in a run on NDIF, the name of
    the checkpoint stands for them. Adapters count as far as they are active.

    Up to 256 evenly spaced values of each parameter are taken, as float32, so a 7B model takes about a second, and weights
    stored in bfloat16 have the same fingerprint whether they are loaded as bfloat16 or as float32. Training changes it;
    editing a few single weights may not.
    """
    digest = hashlib.sha256()
    config: Any = hf_model.config
    config = text_config(config)
    essentials = {key: getattr(config, key, None) for key in _CONFIG_ESSENTIALS}
    digest.update(json.dumps(essentials, sort_keys=True, default=str).encode())
    if working := adapter_settings(hf_model):
        digest.update(json.dumps(working, sort_keys=True).encode())
    parameters = _parameters(hf_model)
    samples = {name: _sample(hf_model, *named) for name, named in parameters.items()}
    if any(sample is None for sample in samples.values()):
        digest.update(str(getattr(hf_model, "name_or_path", "")).encode())
    for name, (_, parameter) in sorted(parameters.items()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        sample = samples[name]
        digest.update(b"" if sample is None else sample.numpy().tobytes())
    return digest.hexdigest()


def _parameters(hf_model: Any) -> dict[str, tuple[str, Tensor]]:
    """What counts, each parameter once, by its name without adapters: its own name and itself."""
    named: dict[str, Tensor] = dict(hf_model.named_parameters())
    tied = getattr(hf_model, "all_tied_weights_keys", None) or {}  # offloaded, they are tensors of their own
    own = [name for name, parameter in named.items() if not (parameter.is_meta and tied.get(name) in named)]
    return {effective: (name, named[name]) for name, effective in effective_names(hf_model, own).items()}


def _sample(hf_model: nn.Module, name: str, parameter: Tensor) -> Tensor | None:
    """Some values, None where they are not at hand."""
    values = value_at_hand(hf_model, name, parameter)
    if values is None:
        return None
    values = values.reshape(-1)
    step = max(1, -(-values.numel() // _SAMPLES))
    return values[::step].to(device="cpu", dtype=torch.float32)
