"""llama-cpp-python leaves nothing open behind."""

from __future__ import annotations

import subprocess
import sys

_QUIET = """
from persona_interp.models.engines.llama_cpp.library import llama_cpp
llama_cpp()
from llama_cpp._utils import suppress_stdout_stderr
with suppress_stdout_stderr(disable=False):
    print("swallowed", flush=True)
print("said")
"""


def test_nothing_is_reported_at_exit_and_its_own_silence_still_works() -> None:
    done = subprocess.run([sys.executable, "-X", "dev", "-c", _QUIET], capture_output=True, text=True, check=True)
    assert done.stdout == "said\n"
    assert done.stderr == ""
