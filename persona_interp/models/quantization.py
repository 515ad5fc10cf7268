"""Weights held in 8 or 4 bits, through bitsandbytes and transformers' own configs for it.

Linear layers are quantized; embeddings, norms and the unembedding are not, and the residual stream stays in the model's dtype. So
everything that reads or writes it works as on any other model.

- ``8bit`` (LLM.int8(), Dettmers et al., arXiv 2208.07339): weights and activations as integers, except the columns in which some
  activation of the batch exceeds 6. Which columns those are depends on the whole batch, so a row's numbers depend a little on the
  rows beside it.
- ``4bit`` (NF4, Dettmers et al., arXiv 2305.14314, section 3): weights alone, turned back into the dtype of the model to compute.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from persona_interp.errors import InvalidInputError, missing_extra
from persona_interp.progress import say

QUANTIZATIONS = ("8bit", "4bit")

_LIBRARY = "bitsandbytes"
_PACKS = "support_avx512bf16_for_cpu"
_LAYERS = ("Linear8bitLt", "Linear4bit")  # by name: bitsandbytes need not be installed
_WORTH_IT = 0.5


def check_quantization(kind: str) -> None:
    """Raise where `kind` is not known or what it needs is not installed.

    Raises:
        InvalidInputError: neither ``8bit`` nor ``4bit``.
        MissingExtraError: the extra ``quantized`` is not installed.
    """
    if kind not in QUANTIZATIONS:
        raise InvalidInputError(f"quantization {kind!r} is not one of {', '.join(QUANTIZATIONS)}: choose one, or leave it out")
    _require(f"quantization={kind!r}")


def method_of(config: Any) -> str | None:
    """How the checkpoint of a Hugging Face config is quantized already, None if it is not.

    Raises:
        MissingExtraError: by bitsandbytes, and the extra ``quantized`` is not installed.
    """
    own = getattr(config, "quantization_config", None)
    if not own:
        return None
    settings: Mapping[str, Any] = own if isinstance(own, Mapping) else own.to_dict()
    method = settings.get("quant_method") or (_LIBRARY if "load_in_8bit" in settings else "unknown")
    method = str(getattr(method, "value", method))
    if method == _LIBRARY:
        _require("a checkpoint quantized by bitsandbytes")
    return method


def quantization_config(kind: str, compute_dtype: torch.dtype | None) -> Any:
    """The transformers config that loads linear layers as `kind`; `compute_dtype` is what 4-bit weights are turned into."""
    from transformers import BitsAndBytesConfig

    for name in ("autograd._functions", "backends.cpu.ops"):
        logging.getLogger(f"{_LIBRARY}.{name}").addFilter(_worth_reading)
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute_dtype)


def say_if_hardly_quantized(hf_model: nn.Module, name: str) -> None:
    """Tell the user where most weights are not in linear layers, as in mixtures of experts, and so stayed large."""
    layers: list[Any] = [module for module in hf_model.modules() if type(module).__name__ in _LAYERS]
    quantized = sum(layer.in_features * layer.out_features for layer in layers)
    large = sum(parameter.numel() for parameter in hf_model.parameters() if parameter.is_floating_point())
    if quantized < _WORTH_IT * (quantized + large):
        share = quantized / max(1, quantized + large)
        say(
            f"{name}: only {share:.0%} of its weights could be quantized. Linear layers are; embeddings, and the experts of a "
            "mixture, which transformers stacks into one tensor, are not"
        )


def never_repack(hf_model: nn.Module) -> None:
    """Keep 4-bit weights as they were loaded, see `as_loaded`; for models that nobody else holds."""
    for module in _repacking(hf_model):
        setattr(module, _PACKS, False)


@contextmanager
def as_loaded(hf_model: nn.Module) -> Iterator[None]:
    """Keep bitsandbytes from rearranging 4-bit weights while a model runs on a CPU.

    On processors with AVX512-BF16 its first forward rewrites the weights and rounds their scales to bfloat16, for good, and
    `state_dict()` does not put the scales back in order. Weights that were rearranged before are used as they are.
    """
    modules = _repacking(hf_model)
    try:
        for module in modules:
            setattr(module, _PACKS, False)
        yield
    finally:
        for module in modules:
            setattr(module, _PACKS, True)


def _repacking(hf_model: nn.Module) -> list[nn.Module]:
    return [module for module in hf_model.modules() if getattr(module, _PACKS, False)]


def _require(feature: str) -> None:
    from importlib.util import find_spec

    if find_spec(_LIBRARY) is None or find_spec("accelerate") is None:
        raise missing_extra(feature, "quantized")


def _worth_reading(record: logging.LogRecord) -> bool:
    """Not: a cast at every call of every layer, which 8 bits mean; and a kernel that is not used here."""
    text = record.getMessage()
    return not text.startswith(("MatMul8bitLt: inputs will be cast", "Failed to load CPU gemm_4bit_forward"))
