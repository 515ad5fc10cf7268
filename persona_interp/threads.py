"""How many threads computing takes and how they wait, on machines that are busy otherwise and in containers of few CPUs.

Threads that spin while they wait for each other are quick on an idle machine. Where another program wants the same cores, each
wait lasts until that program's turn is over, thousands of times a second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from persona_interp.errors import InvalidInputError

WAITING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def set_threads(n: int | None = None) -> None:
    """Let this process compute on `n` threads that wait without spinning; PyTorch and llama.cpp both go by it.

    Call it before torch is imported: how threads wait is settled then. Afterwards only their number still changes. What the
    user's own environment says stays (`WAITING`; without `n` also `NUMBERS`). The command line calls it; Python programs may.

    Example:
        >>> from persona_interp.threads import set_threads
        >>> set_threads()  # as many as there are cores for this process

    Args:
        n: threads; None: `usable_cores`, or what the environment says.

    Raises:
        InvalidInputError: `n` is below 1.
    """
    if n is not None and n < 1:
        raise InvalidInputError(f"threads is {n}: give at least 1")
    if "torch" in sys.modules:
        if n is not None:
            sys.modules["torch"].set_num_threads(n)
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if n is not None:
        os.environ.update(dict.fromkeys(NUMBERS, str(n)))
    elif not any(name in os.environ for name in NUMBERS) and (cores := usable_cores()) is not None:
        os.environ["OMP_NUM_THREADS"] = str(cores)


def usable_cores(root: Path = Path("/")) -> int | None:
    """Cores (not hardware threads) this process may run on and has time on; None where the system does not say.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(root, cpu) for cpu in allowed}
    quota = cpu_quota(root)
    return len(cores) if quota is None else max(1, min(len(cores), int(quota + 0.01)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that control groups (version 1 or 2) leave this process; None where they do not limit it.

    The smallest of its own group's and those of all groups around it.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    found: list[float] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            folders = [root / "sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):
            folders = [root / "sys/fs/cgroup" / name for name in dict.fromkeys(("cpu", controllers))]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for folder in folders:
            for depth in range(len(parts) + 1):
                quota = _quota(folder.joinpath(*parts[:depth]))
                if quota is not None:
                    found.append(quota)
    return min(found, default=None)


def _quota(folder: Path) -> float | None:
    second = _text(folder / "cpu.max").split()
    first = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = second if len(second) == 2 else first
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max", or no such file
        return None


def _siblings(root: Path, cpu: int) -> str:
    """What names the core that a hardware thread is of."""
    return _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").strip() or str(cpu)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
