"""Which options of `load_model` a GGUF file takes, by what runs it."""

from __future__ import annotations

from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.models.loading import LoadOptions

_Choice = tuple[str, Any, str, str]
"""Name in Python, value, name on the command line, remedy."""


def refuse_in_llama_cpp(location: str, options: LoadOptions, tokenizer: Any, remote: bool | str) -> None:
    """Raise for the first option that llama.cpp does not take.

    Raises:
        InvalidInputError: names it, as in Python and as on the command line, and what to do.
    """
    device = "auto" if str(options.device) == "cpu" else options.device
    as_made = "its weights stay as the file has them; leave it out, or make a file in the form you want"
    on_the_cpu = "llama.cpp runs it, on the CPU; leave it out, or let PyTorch run it, with engine='torch' (--engine torch)"
    _refuse(
        location,
        ("tokenizer", tokenizer, "", "the file brings its own; leave it out"),
        ("quantization", options.quantization, "--quantize", as_made),
        ("dtype", None if options.dtype == "auto" else options.dtype, "--dtype", as_made),
        ("device", None if device == "auto" else device, "--device", on_the_cpu),
        ("device_map", options.device_map, "--device-map", on_the_cpu),
        *_of_the_hub(options, remote),
    )


def refuse_in_torch(location: str, options: LoadOptions, remote: bool | str) -> None:
    """Raise for the first option that a GGUF file does not take in PyTorch.

    Raises:
        InvalidInputError: names it, as in Python and as on the command line, and what to do.
    """
    whole = "its weights become the numbers they stand for, which cannot be quantized on the way; leave it out, or choose a dtype"
    _refuse(
        location,
        ("quantization", options.quantization, "--quantize", whole),
        *_of_the_hub(options, None if remote == "local" else remote),
    )


def _of_the_hub(options: LoadOptions, remote: bool | str | None) -> tuple[_Choice, ...]:
    ours = "a remote run takes a hub id, whose weights the server has; give one, or leave it out"
    return (
        ("revision", options.revision, "--revision", "only repositories on the hub have revisions; leave it out"),
        ("remote", remote, "--remote", ours),
        ("trust_remote_code", options.trust_remote_code, "--trust-remote-code", "no code comes with it; leave it out"),
        ("cache_dir", options.cache_dir, "", "it comes from no hub; leave it out"),
    )


def _refuse(location: str, *choices: _Choice) -> None:
    for name, value, option, remedy in choices:
        if value:
            called = f"{name} ({option})" if option else name
            raise InvalidInputError(f"{location} is a GGUF file, which takes no {called}, here {value!r}: {remedy}")
