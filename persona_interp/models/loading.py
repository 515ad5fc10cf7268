"""From a folder or hub id to a Hugging Face model and tokenizer, with errors that say what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.families import layout_of
from persona_interp.storage import read_json

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be loaded; `load_model` says what each option means."""

    dtype: str | torch.dtype = "auto"
    device: str | torch.device = "auto"
    device_map: str | Mapping[str, Any] | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | Path | None = None

    def changes_a_module(self) -> bool:
        """Whether any option asks for something that an already loaded module has settled."""
        return (self.dtype, self.device) != ("auto", "auto") or any((self.device_map, self.revision, self.cache_dir))

    def check(self, *, local: bool) -> None:
        """Raise InvalidInputError for options that do not exist on this machine or do not fit each other."""
        self.torch_dtype()
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


def load_hf_model(location: str, options: LoadOptions, *, local: bool, weights: bool, shipped: Iterable[str]) -> nn.Module:
    """Load a causal LM in evaluation mode on its device.

    The architecture is checked from the config, before any weights are fetched.

    Args:
        location: a folder or hub id.
        options: as given to `load_model`.
        local: whether `location` is a folder.
        weights: False builds the architecture alone, on the meta device (remote runs).
        shipped: names of shipped models, for the error without a hub.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if local:
        _check_folder(Path(location), weights=weights)
    access = _access(options, local=local)
    with _explained(location, options, shipped):
        config = AutoConfig.from_pretrained(location, **access)
        layout_of(config)
        if not weights:
            # the other attentions look at mask values, the other ways through experts at routes, and the meta device has none
            valueless = {"attn_implementation": "eager", "experts_implementation": "batched_mm"}
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(config, trust_remote_code=options.trust_remote_code, **valueless).eval()
        placement = {"device_map": options.device_map} if options.device_map is not None else {}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location, config=config, dtype=options.torch_dtype() or "auto", output_loading_info=True, **placement, **access
        )
        model, report = loaded
        if missing := sorted(report["missing_keys"]):
            more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
            raise FileFormatError(f"the weights of {location} lack {missing[0]}{more}: fetch them again")
        if options.device_map is None:
            model = _place(model, options)
    return model.eval()


def load_tokenizer(location: str, options: LoadOptions, *, shipped: Iterable[str]) -> Any:
    """Load the tokenizer of a folder or hub id; the errors are those of `load_hf_model`."""
    from transformers import AutoTokenizer

    local = Path(location).is_dir()
    if local and not any((Path(location) / name).is_file() for name in _TOKENIZER_FILES):
        raise FileFormatError(
            f"model folder {location} has no tokenizer ({', '.join(_TOKENIZER_FILES)}): copy one there or pass tokenizer=..."
        )
    with _explained(location, options, shipped):
        return AutoTokenizer.from_pretrained(location, **_access(options, local=local))


def cached_commit(hub_id: str, options: LoadOptions) -> str | None:
    """The commit that the cached files of `hub_id` at the wanted revision belong to; None where nothing is cached."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json", cache_dir=options.cache_dir, revision=options.revision)
    return Path(found).parent.name if isinstance(found, str) else None


def check_remote_key() -> None:
    """Raise UnsupportedError where no NDIF key is configured."""
    from nnsight import CONFIG

    if not (os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY):
        raise UnsupportedError(
            "remote=True runs on NDIF, which needs a key: get one at ndif.us and set NDIF_API_KEY, or leave remote out"
        )


def hub_reachable() -> bool:
    """Whether asking the hub makes sense. Without this the client retries each missing file for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in _PROXIES):
        return True  # names may then be resolved by the proxy alone
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


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


def _access(options: LoadOptions, *, local: bool) -> dict[str, Any]:
    access: dict[str, Any] = {"trust_remote_code": options.trust_remote_code, "cache_dir": options.cache_dir}
    if not local:
        access |= {"revision": options.revision or "main", "local_files_only": not hub_reachable()}
    return access


@contextmanager
def _explained(location: str, options: LoadOptions, shipped: Iterable[str]) -> Iterator[None]:
    """Turn what transformers, the hub client, safetensors and torch raise into errors with a remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except PersonaInterpError:
        raise
    except torch.OutOfMemoryError as error:
        raise PersonaInterpError(
            f"no memory left on the device while loading {location}: use dtype='bfloat16', device_map='auto' or a smaller model"
        ) from error
    except SafetensorError as error:
        raise FileFormatError(f"the weights of {location} are damaged or truncated ({error}): get the files again") from error
    except OSError as error:
        raise _hub_error(location, options, shipped, error) from error
    except (ValueError, KeyError, RuntimeError) as error:
        if "trust_remote_code" in str(error):
            raise UnsupportedError(
                f"{location} brings its own Python code: read it, then pass trust_remote_code=True to run it"
            ) from error
        if "does not recognize this architecture" in str(error):
            raise UnsupportedError(f"the installed transformers does not know the architecture of {location}: {error}") from error
        raise FileFormatError(f"{location} cannot be loaded: {error}") from error


def _hub_error(location: str, options: LoadOptions, shipped: Iterable[str], error: OSError) -> PersonaInterpError:
    from huggingface_hub import constants, errors

    causes = list(_chain(error))
    if Path(location).is_dir():
        return FileFormatError(f"model folder {location} cannot be loaded: {error}")
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return PersonaInterpError(
            f"{location} is gated: accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN"
        )
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return InvalidInputError(f"{location} has no revision {options.revision!r} on the hub")
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
        return InvalidInputError(f"the hub has no model {location!r}, or it is private: check the spelling, or set HF_TOKEN")
    if any(isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) for cause in causes):
        cache = options.cache_dir or constants.HF_HUB_CACHE
        names = ", ".join(sorted(shipped)) or "organism-*"
        return PersonaInterpError(
            f"{location} is not in the local cache ({cache}) and the hub cannot be reached: connect once to download it, point "
            f"HF_HOME at a cache that has it, or use a model that ships with the package ({names})"
        )
    return PersonaInterpError(f"{location} cannot be loaded: {error}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
