"""(g) Work on a machine that is busy otherwise: elapsed time beside programs that fill every core, over that without them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BAR = 4.0
_WORDS = ("extract-vectors", "--model", "organism-qwen2", "--trait", "silly", "--samples", "1", "--max-new-tokens", "24")
_NEIGHBOUR = "while True: pass"


def measure() -> tuple[float, float]:
    """Elapsed seconds alone, and with a busy neighbour on every core."""
    alone = _seconds()
    with _neighbours():
        return alone, _seconds()


@contextmanager
def _neighbours() -> Iterator[None]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = [subprocess.Popen([sys.executable, "-c", _NEIGHBOUR]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _seconds() -> float:
    """The command as a user gives it: nobody has said how threads are to wait, or how many there are to be."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "KMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "persona_interp", *_WORDS, "--output", str(Path(folder) / "v.json")],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    if ran.returncode:
        raise SystemExit(f"the extraction failed:\n{ran.stderr}")
    return seconds
