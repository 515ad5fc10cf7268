"""How much memory one pass of a model may take: what is free on its device, and what rows of a pass need.

A CPU that runs out raises nothing: the kernel ends the process. So batches are sized beforehand, by estimates that lie above what
was measured, and a batch that an accelerator refuses all the same is halved (`batching.run_in_batches`).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

CPU_PASS = 2**30
"""Bytes that a pass on a CPU takes at most: a thousand tokens together are as fast there as many thousands."""
_UNKNOWN = 2**32
"""Free memory assumed where a system does not tell."""
_SHARE = 0.5
"""Of what is free: other programs grow too, and an allocator does not give back all it was given."""
_WORTH_GIVING_BACK = 2**26
_SAMPLER = 44
"""Bytes a token of the vocabulary and row while one is drawn: scores three times in float32, probabilities four in float64."""

RowBytes: TypeAlias = Callable[[int], int]
"""Tokens of a row, pads included -> bytes that it takes while its batch runs."""


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on `device`; on a CPU what the machine and every control group of the process leave."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min([_machine_free(), *_groups_free()])


def pass_bytes(device: torch.device, *, asked: bool = False) -> int:
    """What one pass may take, rounded down to a power of two, so that runs under like conditions form like batches.

    Args:
        device: where the model is.
        asked: the size of a batch was asked for, so that only what is free bounds it.
    """
    bound = int(_SHARE * free_memory(device))
    if device.type == "cpu" and not asked:
        bound = min(bound, CPU_PASS)
    return 1 << max(20, bound.bit_length() - 1)


def give_back(device: torch.device, n_bytes: int) -> None:
    """Have the C library return what a pass of `n_bytes` on a CPU has freed.

    Batches come in many shapes. glibc keeps the blocks of each for the next of that size, which may never come, and the memory of
    a process grows by a third of a gigabyte in a few batches; the tensors themselves, and oneDNN's kernels, leave nothing behind.
    """
    if device.type == "cpu" and n_bytes >= _WORTH_GIVING_BACK and (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's `malloc_trim`; None with another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim if sys.platform == "linux" else None
    except AttributeError:
        return None


@dataclass(frozen=True)
class PassCost:
    """What rows of a pass need, from the model's shape.

    Attributes:
        config: the text part of a Hugging Face config.
        dtype: of the weights.
    """

    config: Any
    dtype: torch.dtype

    def reading(self, *, kept_layers: int = 0, logits: bool = False, cached: bool = False) -> RowBytes:
        """A forward without gradients, while the residuals of `kept_layers` blocks are kept at every position.

        With `logits` those of the last position are made, and taken over in float32; with `cached`, keys and values are kept.
        """
        kept = kept_layers * self._width * self.dtype.itemsize + (self._cache if cached else 0)
        last = 3 * 4 * self.config.vocab_size if logits else 0
        return lambda n: n * (self._block + kept + self._attention(n)) + last

    def generating(self) -> RowBytes:
        """A prefill, the cache of keys and values, and the drawing of a token."""
        return lambda n: n * (self._block + self._cache + self._attention(n)) + _SAMPLER * self.config.vocab_size

    def differentiating(self) -> RowBytes:
        """A forward and a backward pass: what every block computes is kept until the gradient has come back to it."""
        layers = self.config.num_hidden_layers
        return lambda n: n * ((layers + 2) * (self._block + self._attention(n)))

    @property
    def _width(self) -> int:
        return int(self.config.hidden_size)

    @property
    def _block(self) -> int:
        """Bytes a token of what one block computes: about twelve vectors of the stream's width, five of the MLP's."""
        config = self.config
        inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * self._width
        experts = getattr(config, "num_experts_per_tok", None) or 1
        expert = getattr(config, "moe_intermediate_size", None) or inner
        inner = max(int(inner), experts * int(expert)) if experts > 1 else int(inner)
        return (12 * self._width + 5 * inner) * 4  # norms compute in float32 whatever the dtype

    @property
    def _cache(self) -> int:
        """Bytes a token of keys and values."""
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * config.num_hidden_layers * heads * head_dim * self.dtype.itemsize

    def _attention(self, n: int) -> int:
        """Bytes a token of attention scores, where they are computed one by one."""
        if getattr(self.config, "_attn_implementation", None) != "eager":
            return 0
        return self.config.num_attention_heads * n * (8 + self.dtype.itemsize)


def _machine_free() -> int:
    try:
        if sys.platform == "linux":
            fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
            return int(fields["MemAvailable"].split()[0]) * 1024
        import psutil  # not ours to require: accelerate brings it

        return int(psutil.virtual_memory().available)
    except (ImportError, OSError, KeyError, ValueError):
        return _UNKNOWN


def _groups_free() -> Iterator[int]:
    """What the limits of the control groups leave, each group's and those above it."""
    for folder, limit, used in _groups():
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            if most == "max":
                continue
            now = int((folder / used).read_text(encoding="ascii"))
            yield max(0, int(most) - now + _reclaimable(folder))
        except (OSError, ValueError):
            continue


def _groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[tuple[Path, str, str]]:
    """(folder, file of the limit, file of the usage) of every control group of memory that the process is in."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0":
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place == base or base in place.parents:
                yield place, *names


def _reclaimable(folder: Path) -> int:
    """Bytes of cached files, which count as used and are given up when memory is asked for."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    fields = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(fields.get("inactive_file") or fields.get("total_inactive_file") or 0)
