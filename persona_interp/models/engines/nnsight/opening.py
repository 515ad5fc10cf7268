"""From a folder, hub id, GGUF file or loaded module to a model that PyTorch runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.adapter_folder import base_of, base_revision, holds_adapter, with_adapter
from persona_interp.models.adapters import active_adapters
from persona_interp.models.catalogue import find_model
from persona_interp.models.gguf_options import refuse_in_torch
from persona_interp.models.gguf_torch import load_gguf_in_torch
from persona_interp.models.hub import cached_commit
from persona_interp.models.loading import LoadOptions, holds_tokenizer, load_hf_model, load_tokenizer
from persona_interp.models.packaged import PACKAGED
from persona_interp.models.remote import check_remote
from persona_interp.models.shipped import shipped_models
from persona_interp.models.source import ModelSource
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.unwrapped import check_same, unwrapped


def open_model(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """The model at a place; arguments and errors are those of `load_model`."""
    if source.gguf:
        refuse_in_torch(source.location, options, remote)
        return load_gguf_in_torch(source.location, options, tokenizer, name=source.name, remote=remote, shipped=shipped_models())
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
    revision, cache_dir = options.revision, options.cache_dir
    commit = None if source.local or remote is True else cached_commit(source.location, revision=revision, cache_dir=cache_dir)
    return SteerableModel(hf_model, tokenizer, name=source.name, revision=commit or revision, remote=remote)


def wrap_module(module: nn.Module, tokenizer: Any, options: LoadOptions, *, remote: bool | str) -> SteerableModel:
    """A model that somebody has loaded; arguments and errors are those of `load_model`."""
    _check_remote(options, remote)
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
    if base.local and holds_adapter(Path(base.location)):
        raise UnsupportedError(f"the adapter {folder} is of {base.location}, which is not a model of transformers itself")
    if base.gguf:
        refuse_in_torch(base.location, options, remote)
        file = load_gguf_in_torch(base.location, options, tokenizer, name=base.name, remote=False, shipped=shipped_models())
        return SteerableModel(unwrapped(with_adapter(file.hf_model, folder)), file.tokenizer, name=source.name, remote=remote)
    base_options = replace(options, revision=options.revision or base_revision(folder))
    base_options.check(local=base.local)
    hf_model = load_hf_model(base.location, base_options, local=base.local, weights=True, shipped=shipped_models())
    hf_model = unwrapped(with_adapter(hf_model, folder))
    if tokenizer is None or isinstance(tokenizer, str | Path):
        own = source.location if holds_tokenizer(folder) else base.location
        tokenizer = load_tokenizer(own if tokenizer is None else str(tokenizer), base_options, shipped=shipped_models())
    return SteerableModel(hf_model, tokenizer, name=source.name, remote=remote)
