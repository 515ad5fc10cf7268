"""`load_model` for every kind of model: what PyTorch runs, and GGUF files, which llama.cpp runs."""

from __future__ import annotations

from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.models.loading import LoadOptions
from persona_interp.models.registry import ModelSource, load_model, register_gguf_loader
from persona_interp.models.steerable import SteerableModel

__all__ = ["load_model"]


def _load_gguf(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """A GGUF file as a model, if no option asks for what only PyTorch can do."""
    from persona_interp.modulation.llama_model import LlamaCppModel

    _refuse(source, options, tokenizer, remote)
    return LlamaCppModel(source.location, name=source.name)


def _refuse(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> None:
    """Raise for the first option that a GGUF file does not take.

    Raises:
        InvalidInputError: names it, as in Python and as on the command line, and what to do.
    """
    device = "auto" if str(options.device) == "cpu" else options.device
    as_made = "its weights stay as the file has them; leave it out, or make a file in the form you want"
    choices = (
        ("tokenizer", tokenizer, "", "the file brings its own; leave it out"),
        ("quantization", options.quantization, "--quantize", as_made),
        ("dtype", None if options.dtype == "auto" else options.dtype, "--dtype", as_made),
        ("device", None if device == "auto" else device, "--device", "llama.cpp runs it, on the CPU; leave it out"),
        ("device_map", options.device_map, "--device-map", "llama.cpp runs it, on the CPU; leave it out"),
        ("revision", options.revision, "--revision", "only repositories on the hub have revisions; leave it out"),
        ("remote", remote, "--remote", "a remote run takes a hub id, whose weights the server has; give one, or leave it out"),
        ("trust_remote_code", options.trust_remote_code, "--trust-remote-code", "no code comes with it; leave it out"),
        ("cache_dir", options.cache_dir, "", "it comes from no hub; leave it out"),
    )
    for name, value, option, remedy in choices:
        if value:
            called = f"{name} ({option})" if option else name
            raise InvalidInputError(f"{source.location} is a GGUF file, which takes no {called}, here {value!r}: {remedy}")


register_gguf_loader(_load_gguf)
