"""Which models can be named, and where a name, a folder, a file or a hub id leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from persona_interp.errors import FileFormatError, InvalidInputError, unknown_name
from persona_interp.models.engines.registry import ENGINES
from persona_interp.models.gguf_file import GGUF_SUFFIX, is_gguf
from persona_interp.models.hub import cached_weights
from persona_interp.models.packaged import PACKAGED, local_file
from persona_interp.models.shipped import shipped_models
from persona_interp.models.source import HUB_ID, ModelSource

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
    if not HUB_ID.fullmatch(hub_id):
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


def find_model(name: str | Path) -> ModelSource:
    """Resolve a short name, local folder, file of an engine or hub id, in that order, without touching the network.

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
        return ModelSource(folder.stem, str(folder), local=True, gguf=True, engine="llama.cpp")
    given = ModelSource(folder.stem if folder.is_file() else text, text, local=folder.exists())
    if text and not HUB_ID.fullmatch(text):
        for kind in ENGINES.values():
            if kind.opens(given):
                return replace(given, engine=kind.name)
    if folder.is_file():
        raise FileFormatError(
            f"model {text} is a file, but not GGUF: give a GGUF file, or the folder that holds config.json, the tokenizer and "
            "*.safetensors"
        )
    if folder.suffix.lower() == GGUF_SUFFIX:
        raise FileFormatError(f"model file {text} does not exist: check the path")
    if isinstance(name, Path) or _PATH_LIKE.match(text):
        raise FileFormatError(f"model folder {text} does not exist: check the path, or give a hub id or one of the known names")
    if HUB_ID.fullmatch(text):
        return ModelSource(text, text, local=False)
    raise unknown_name(
        "model", text, sorted({*MODELS, *PACKAGED, *shipped}), "A hub id ('owner/name') or a local folder will do as well."
    )


def _named(name: str) -> ModelSource:
    hub_id = MODELS[name] if name in MODELS else PACKAGED[name].hub_id
    if name in PACKAGED and not cached_weights(hub_id) and (file := local_file(PACKAGED[name])) is not None:
        return ModelSource(name, str(file), local=True, gguf=True)
    return ModelSource(hub_id, hub_id, local=False)
