"""What a command costs, step by step: seconds, tokens and peak memory, recorded while it runs.

Steps are what `progress.track` reports, and models being loaded; one within another is part of it. Where nobody asked for a
profile nothing is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Step:
    """Something that was done, once or several times.

    Attributes:
        name: what.
        depth: how many steps it is within.
        calls: how often.
        seconds: elapsed, all calls together.
        cpu_seconds: of all threads of the process.
        tokens_read: prompts and given texts, as far as the model read them; without padding.
        tokens_written: generated.
        peak_mib: most memory in use (VmHWM) during any call, everything of the process included.
        peak_gpu_mib: most of the accelerator's memory in use by tensors; None without one.
    """

    name: str
    depth: int
    calls: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    tokens_read: int = 0
    tokens_written: int = 0
    peak_mib: float = 0.0
    peak_gpu_mib: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        tokens = self.tokens_read + self.tokens_written
        return {
            "step": self.name,
            "depth": self.depth,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "tokens_read": self.tokens_read,
            "tokens_written": self.tokens_written,
            "tokens_per_second": round(tokens / self.seconds, 1) if tokens and self.seconds else None,
            "peak_mib": round(self.peak_mib, 1),
            "peak_gpu_mib": None if self.peak_gpu_mib is None else round(self.peak_gpu_mib, 1),
        }


@dataclass
class Profile:
    """The steps, in the order they began; the first is the whole."""

    steps: dict[tuple[str, ...], Step] = field(default_factory=dict)
    _open: list[tuple[str, ...]] = field(default_factory=list)

    def to_json(self) -> list[dict[str, Any]]:
        """JSON values."""
        return [each.to_json() for each in self.steps.values()]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block as a step within those that are open."""
        path = (*self._open[-1], name) if self._open else (name,)
        here = self.steps.setdefault(path, Step(name, len(path) - 1))
        self._note_peaks()
        _reset_peaks()
        self._open.append(path)
        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            here.calls += 1
            here.seconds += time.perf_counter() - began
            here.cpu_seconds += time.process_time() - began_cpu
            self._note_peaks()
            self._open.remove(path)

    def count(self, read: int, written: int) -> None:
        """Add tokens to the steps that are open."""
        for path in self._open:
            self.steps[path].tokens_read += read
            self.steps[path].tokens_written += written

    def _note_peaks(self) -> None:
        """What was used since the last reset was used in every step that is open."""
        peak, gpu = _peak_mib(), _peak_gpu_mib()
        for path in self._open:
            each = self.steps[path]
            each.peak_mib = max(each.peak_mib, peak)
            if gpu is not None:
                each.peak_gpu_mib = max(each.peak_gpu_mib or 0.0, gpu)


_PROFILE: ContextVar[Profile | None] = ContextVar("profile", default=None)


@contextmanager
def profiled(whole: str) -> Iterator[Profile]:
    """Record what the block does, in this thread, as steps of one called `whole`.

    Example:
        >>> with profiled("extraction") as profile:
        ...     vector = extract(model, "silly")
        >>> profile.to_json()
    """
    profile = Profile()
    token = _PROFILE.set(profile)
    try:
        with profile.step(whole):
            yield profile
    finally:
        _PROFILE.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """A step of the profile that is being made, if any."""
    profile = _PROFILE.get()
    if profile is None:
        yield
        return
    with profile.step(name):
        yield


def count_tokens(*, read: int = 0, written: int = 0) -> None:
    """Count tokens for the steps that are open."""
    profile = _PROFILE.get()
    if profile is not None:
        profile.count(read, written)


def _peak_mib() -> float:
    try:
        line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):  # no Linux: the peak since the process began, in KiB or (macOS) bytes
        if sys.platform == "win32":
            return 0.0
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _peak_gpu_mib() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / 2**20


def _reset_peaks() -> None:
    """Let the peaks begin anew from what is in use; where the system does not allow it, they are of all that was before."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
