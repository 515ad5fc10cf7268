"""(f) What it costs to begin: importing the package, and the help of the command, in CPU seconds of processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

BARS = {"import persona_interp": 0.3, "persona-interp --help": 1.0}
_WORDS = {"import persona_interp": ("-c", "import persona_interp"), "persona-interp --help": ("-m", "persona_interp", "--help")}


def measure(rounds: int) -> dict[str, float]:
    """What -> median CPU seconds of a process that does it, Python's own start included."""
    return {name: median(_seconds(*words) for _ in range(rounds)) for name, words in _WORDS.items()}


def _seconds(*words: str) -> float:
    before = os.times()
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    after = os.times()
    if ran.returncode:
        raise SystemExit(f"{words} failed:\n{ran.stderr}")
    return after.children_user + after.children_system - before.children_user - before.children_system
