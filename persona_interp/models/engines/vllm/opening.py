"""From a folder, hub id or GGUF file to a model that vLLM runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.models.adapter_folder import holds_adapter
from persona_interp.models.chat import ChatFormat
from persona_interp.models.engines.vllm.engine import VllmEngine
from persona_interp.models.engines.vllm.library import start, vllm
from persona_interp.models.engines.vllm.replicas import Replicas, gpus_of
from persona_interp.models.families import layout_of
from persona_interp.models.gguf_file import file_fingerprint, read_header
from persona_interp.models.gguf_torch import load_gguf_in_torch
from persona_interp.models.hub import cached_commit, explained, hub_reachable
from persona_interp.models.identity import fingerprint
from persona_interp.models.loading import LoadOptions, load_hf_model, load_tokenizer
from persona_interp.models.shipped import shipped_models
from persona_interp.models.source import ModelSource
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import home, write_folder_atomically


def open_model(source: ModelSource, options: LoadOptions, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """The model at a place; arguments and errors are those of `load_model`.

    Raises:
        MissingExtraError: vLLM is not installed.
        InvalidInputError: an option that says where PyTorch puts weights, a remote run, or one of another engine.
        UnsupportedError: an adapter, or an architecture that is not known.
    """
    _refuse(source, options, remote)
    vllm()
    location, local = (str(_as_folder(source, options)), True) if source.gguf else (source.location, source.local)
    options.check(local=source.local)
    config, settings = _described(location, options, local=local)
    layout_of(config)
    if tokenizer is None or isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(location if tokenizer is None else str(tokenizer), options, shipped=shipped_models())
    revision, cache_dir = options.revision, options.cache_dir
    commit = None if local else cached_commit(location, revision=revision, cache_dir=cache_dir)
    arguments = dict(options.engine_options or {})
    if cache_dir is not None:
        arguments["download_dir"] = str(cache_dir)
    if options.trust_remote_code:
        arguments["trust_remote_code"] = True
    settled = _Settled(source, location, local, config, options, arguments)
    copies: list[VllmEngine] = []
    try:
        for copy in range(options.replicas):
            with gpus_of(copy, options.replicas, options.tensor_parallel_size):
                copies.append(_started(settled))
    except BaseException:
        for copy in copies:
            copy.close()
        raise
    engine = copies[0] if len(copies) == 1 else Replicas(copies)
    return SteerableModel(engine, tokenizer, name=source.name, revision=commit or revision, chat=ChatFormat(tokenizer, settings))


@dataclass(frozen=True)
class _Settled:
    """What every copy of a model is started with."""

    source: ModelSource
    location: str
    local: bool
    config: Any
    options: LoadOptions
    arguments: dict[str, Any]


def _started(settled: _Settled) -> VllmEngine:
    source, location, options = settled.source, settled.location, settled.options
    llm = start(
        location,
        dtype=_dtype(settled.config, options),
        revision=options.revision,
        tensor_parallel_size=options.tensor_parallel_size,
        options=settled.arguments,
    )

    def weights() -> str:
        plain = LoadOptions("auto", "cpu", None, options.revision, options.trust_remote_code, options.cache_dir)
        return fingerprint(load_hf_model(location, plain, local=settled.local, weights=True, shipped=shipped_models()))

    file = file_fingerprint(read_header(Path(source.location))) if source.gguf else None
    return VllmEngine(llm, settled.config, name=source.name, fingerprint=weights, file_fingerprint=file)


def _refuse(source: ModelSource, options: LoadOptions, remote: bool | str) -> None:
    if remote:
        raise InvalidInputError(f"remote={remote!r} is of PyTorch models on NDIF; vLLM runs here: leave it out")
    if options.replicas > 1 and os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
        raise InvalidInputError(
            "replicas are processes, and VLLM_ENABLE_V1_MULTIPROCESSING=0 says there are to be none: unset it"
        )
    given = {"device": options.device != "auto", "device_map": options.device_map, "quantization": options.quantization}
    if named := [name for name, is_given in given.items() if is_given]:
        raise InvalidInputError(
            f"{' and '.join(named)} say how PyTorch holds a model: leave it out; vLLM takes tensor_parallel_size, engine_options"
        )
    if source.local and not source.gguf and holds_adapter(Path(source.location)):
        raise UnsupportedError(
            f"{source.location} is an adapter; merge it (merge_and_unload(), save_pretrained()), and load that"
        )


def _as_folder(source: ModelSource, options: LoadOptions) -> Path:
    """A GGUF file's weights as a Hugging Face folder, which vLLM reads; made once and kept under the data folder."""
    folder = home() / "models" / "vllm" / file_fingerprint(read_header(Path(source.location)))
    if not folder.is_dir():
        model = load_gguf_in_torch(source.location, LoadOptions(), None, name=source.name, remote=False, shipped=shipped_models())

        def write(place: Path) -> None:
            model.hf_model.save_pretrained(place)
            model.tokenizer.save_pretrained(place)

        folder.parent.mkdir(parents=True, exist_ok=True)
        write_folder_atomically(folder, write)
    return folder


def _described(location: str, options: LoadOptions, *, local: bool) -> tuple[Any, Any]:
    """Configuration and generation settings."""
    from transformers import AutoConfig, GenerationConfig

    access: dict[str, Any] = {"cache_dir": options.cache_dir}
    if not local:
        access |= {"revision": options.revision or "main", "local_files_only": not hub_reachable()}
    with explained(location, revision=options.revision, cache_dir=options.cache_dir, shipped=shipped_models()):
        config = AutoConfig.from_pretrained(location, trust_remote_code=options.trust_remote_code, **access)
    try:
        settings = GenerationConfig.from_pretrained(location, **access)
    except OSError:  # a model that comes without
        settings = GenerationConfig.from_model_config(config)
    return config, settings


def _dtype(config: Any, options: LoadOptions) -> str:
    """By its name: what was asked for, else what the checkpoint was saved in, but no half precision on a CPU."""
    from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

    dtype = options.torch_dtype() or getattr(config, "dtype", None) or torch.float32
    if options.torch_dtype() is None and dtype == torch.float16 and current_platform.is_cpu():
        dtype = torch.float32
    return str(dtype).removeprefix("torch.")
