"""From a folder or hub id to a Hugging Face model and tokenizer, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.families import layout_of
from persona_interp.models.hub import explained, hub_reachable
from persona_interp.models.quantization import (
    check_quantization,
    method_of,
    never_repack,
    quantization_config,
    say_if_hardly_quantized,
)
from persona_interp.storage import read_json

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_MISTRALS = "tekken.json"
_WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be loaded; `load_model` says what each option means."""

    dtype: str | torch.dtype = "auto"
    device: str | torch.device = "auto"
    device_map: str | Mapping[str, Any] | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | Path | None = None
    quantization: str | None = None
    engine: str | None = None
    tensor_parallel_size: int = 1
    replicas: int = 1
    engine_options: Mapping[str, Any] | None = None

    def changes_a_module(self) -> bool:
        """Whether any option asks for something that an already loaded module has settled."""
        return (self.dtype, self.device) != ("auto", "auto") or any(
            (self.device_map, self.revision, self.cache_dir, self.quantization)
        )

    def check(self, *, local: bool) -> None:
        """Raise for options that do not exist on this machine or do not fit each other."""
        self.torch_dtype()
        if self.quantization is not None:
            check_quantization(self.quantization)
        if self.device_map is not None:
            if self.device != "auto":
                raise InvalidInputError(
                    f"both device={str(self.device)!r} and device_map={self.device_map!r} are given: give one"
                )
            _check_accelerate()
        else:
            self.torch_device()
        if local and self.revision:
            raise InvalidInputError(
                f"revision {self.revision!r} is for models from the hub; a local folder has none: leave it out"
            )

    def torch_dtype(self) -> torch.dtype | None:
        """The dtype asked for, None for "auto"."""
        if self.dtype == "auto":
            return None
        found = DTYPES.get(self.dtype) if isinstance(self.dtype, str) else self.dtype
        if found not in DTYPES.values():
            raise InvalidInputError(f"dtype {str(self.dtype)!r} is not one of auto, {', '.join(DTYPES)}")
        return found

    def torch_device(self) -> torch.device:
        """The device to load on; "auto" is CUDA, else MPS, else CPU."""
        available = _available_devices()
        if self.device == "auto":
            return torch.device(available[0])
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise InvalidInputError(f"device {self.device!r} is not one of auto, {', '.join(available)}") from error
        if device.type not in available:
            raise InvalidInputError(f"device {str(device)!r} is not on this machine: choose one of auto, {', '.join(available)}")
        if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise InvalidInputError(
                f"device {str(device)!r} is not on this machine, which has {count} GPUs, cuda:0 to cuda:{count - 1}"
            )
        return device


def load_hf_model(
    location: str, options: LoadOptions, *, local: bool, weights: bool, shipped: Iterable[str], gguf_file: str | None = None
) -> nn.Module:
    """Load a causal LM in evaluation mode on its device.

    The architecture is checked from the config, before any weights are fetched.

    Args:
        location: a folder or hub id.
        options: as given to `load_model`.
        local: whether `location` is a folder.
        weights: False builds the architecture alone, on the meta device (remote runs).
        shipped: names of shipped models, for the error without a hub.
        gguf_file: name of the file in the folder `location` that holds config and weights (see `gguf_torch`).
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if local and gguf_file is None:
        _check_folder(Path(location), weights=weights)
    access = _access(options, local=local, gguf_file=gguf_file)
    with explained(location, revision=options.revision, cache_dir=options.cache_dir, shipped=shipped):
        config = AutoConfig.from_pretrained(location, **access)
        layout_of(config)
        if not weights:
            # the other attentions look at mask values, the other ways through experts at routes, and the meta device has none
            valueless = {"attn_implementation": "eager", "experts_implementation": "batched_mm"}
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(config, trust_remote_code=options.trust_remote_code, **valueless).eval()
        form = _form(config, options, location)
        loaded: Any = AutoModelForCausalLM.from_pretrained(location, config=config, output_loading_info=True, **form, **access)
        model, report = loaded
        if missing := sorted(report["missing_keys"]):
            more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
            raise FileFormatError(f"the weights of {location} lack {missing[0]}{more}: fetch them again")
        if options.quantization is not None:
            say_if_hardly_quantized(model, location)
        never_repack(model)
        if "device_map" not in form:
            model = _place(model, options)
    return model.eval()


def load_tokenizer(location: str, options: LoadOptions, *, shipped: Iterable[str], gguf_file: str | None = None) -> Any:
    """Load the tokenizer of a folder or hub id, or of a GGUF file in a folder; the errors are those of `load_hf_model`."""
    from transformers import AutoTokenizer

    local = Path(location).is_dir()
    if local and gguf_file is None and not holds_tokenizer(Path(location)):
        theirs = f", only {_MISTRALS}, which has no chat template" if (Path(location) / _MISTRALS).is_file() else ""
        raise FileFormatError(
            f"model folder {location} has no tokenizer ({', '.join(_TOKENIZER_FILES)}){theirs}: copy one there or pass "
            "tokenizer=..."
        )
    with explained(location, revision=options.revision, cache_dir=options.cache_dir, shipped=shipped):
        # mistral-common, where it is installed, would bring a tokenizer without offsets or template in place of Hugging Face's
        return AutoTokenizer.from_pretrained(location, mistral_format=False, **_access(options, local=local, gguf_file=gguf_file))


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder holds files of a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _form(config: Any, options: LoadOptions, location: str) -> dict[str, Any]:
    """How `from_pretrained` is to hold the weights: dtype, quantization, and where they cannot be moved later, the device."""
    method, dtype = method_of(config), options.torch_dtype()
    if method is None and options.quantization is None:
        placement = {"device_map": options.device_map} if options.device_map is not None else {}
        return {"dtype": dtype or "auto", **placement}
    if method is not None and options.quantization is not None:
        raise InvalidInputError(
            f"{location} is quantized already ({method}); quantization={options.quantization!r} cannot come on top: leave it out"
        )
    stored = getattr(config, "dtype", None)
    device_map = options.device_map
    if device_map is None:
        device = options.torch_device()
        device_map = {"": device}
        if dtype is None and device.type == "cpu" and stored == torch.float16:
            dtype = torch.float32
    form: dict[str, Any] = {"dtype": dtype or "auto", "device_map": device_map}
    if options.quantization is not None:
        form["quantization_config"] = quantization_config(options.quantization, dtype or stored)
    return form


def _place(model: Any, options: LoadOptions) -> Any:
    device = options.torch_device()
    if device.type == "cpu" and options.torch_dtype() is None and model.dtype == torch.float16:
        model = model.float()
    return model.to(device)


def _available_devices() -> list[str]:
    found = ["cuda"] if torch.cuda.is_available() else []
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _check_accelerate() -> None:
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        raise InvalidInputError("device_map needs the package accelerate: pip install accelerate, or use device instead")


def _check_folder(folder: Path, *, weights: bool) -> None:
    config = read_json(folder / "config.json", "model configuration")
    if "model_type" not in config:
        raise FileFormatError(
            f"{folder / 'config.json'} has no 'model_type', so it is not the configuration of a transformers model"
        )
    if weights and not any(path for pattern in _WEIGHT_PATTERNS for path in folder.glob(pattern)):
        raise FileFormatError(f"model folder {folder} has no weights ({', '.join(_WEIGHT_PATTERNS[:2])})")


def _access(options: LoadOptions, *, local: bool, gguf_file: str | None) -> dict[str, Any]:
    access: dict[str, Any] = {"trust_remote_code": options.trust_remote_code, "cache_dir": options.cache_dir}
    if gguf_file is not None:
        access["gguf_file"] = gguf_file
    if not local:
        access |= {"revision": options.revision or "main", "local_files_only": not hub_reachable()}
    return access
