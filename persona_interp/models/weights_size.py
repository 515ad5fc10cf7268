"""How large a model's weights are, on disk and in memory, told from its files before anything is loaded."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from persona_interp.errors import PersonaInterpError
from persona_interp.models.gguf_pieces import read_model_header
from persona_interp.models.hub import cached_folder
from persona_interp.models.memory import free_memory
from persona_interp.models.source import ModelSource
from persona_interp.storage import read_json

MB, GB = 10**6, 10**9
_BESIDE = 1.1
"""Weights and what a first short answer needs beside them."""
_HALVES = ("float16",)
"""Dtypes of checkpoints that become float32 on a CPU (`load_model`, ``dtype="auto"``)."""
_FLOAT32 = 4


def size_on_disk(source: ModelSource) -> int | None:
    """Bytes of the files that hold the weights; None where they are not on this machine."""
    files = _files(source)
    return sum(file.stat().st_size for file in files) or None


def size_in_memory(source: ModelSource, device: torch.device) -> int | None:
    """Bytes of the weights once they are loaded as `load_model` does it by default; None where that is not known beforehand."""
    stored = size_on_disk(source)
    if stored is None:
        return None
    if source.gguf:
        if source.engine != "torch":
            return stored
        return sum(math.prod(tensor.shape) for tensor in read_model_header(Path(source.location)).tensors) * _FLOAT32
    return 2 * stored if device.type == "cpu" and _dtype(source) in _HALVES else stored


def in_words(n_bytes: float) -> str:
    """A size as it is usually said."""
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB else f"{n_bytes / MB:.0f} MB"


def check_fits_memory(source: ModelSource, device: torch.device | None = None) -> None:
    """Refuse a model whose weights the memory cannot hold, before it is loaded: a CPU that runs out ends the process.

    Args:
        source: from `find_model`.
        device: where it will be; None: CUDA where there is one that the engine uses, else the CPU.

    Raises:
        PersonaInterpError: it cannot; says how much it needs and how much is free.
    """
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() and source.engine == "torch" else "cpu")
    size = size_in_memory(source, device)
    needed, free = _BESIDE * (size or 0), free_memory(device)
    if needed > free:
        raise PersonaInterpError(
            f"{source.name} needs about {in_words(needed)} of memory, and {in_words(free)} are free: end other programs, or "
            "choose a smaller model, or a quantized file (.gguf) of it"
        )


def _folder(source: ModelSource) -> Path | None:
    return Path(source.location) if source.local else cached_folder(source.location)


def _files(source: ModelSource) -> list[Path]:
    if source.gguf:
        return sorted({tensor.file for tensor in read_model_header(Path(source.location)).tensors})
    folder = _folder(source)
    if folder is None or not folder.is_dir():
        return []
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def _dtype(source: ModelSource) -> str:
    folder = _folder(source)
    config = {} if folder is None or not (folder / "config.json").is_file() else read_json(folder / "config.json", "config")
    return str(config.get("dtype") or config.get("torch_dtype"))
