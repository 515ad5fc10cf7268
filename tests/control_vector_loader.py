"""llama.cpp's own loader of control vectors, the one behind ``--control-vector-scaled``.

It lies in a library of C++ that llama-cpp-python brings along when it is built from source. A program of a few lines calls it.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

_PROGRAM = """
#include <cstdio>
#include <string>
#include <vector>

struct common_control_vector_data { int n_embd; std::vector<float> data; };
struct common_control_vector_load_info { float strength; std::string fname; };
common_control_vector_data common_control_vector_load(const std::vector<common_control_vector_load_info> & files);

int main(int argc, char ** argv) {
    const auto loaded = common_control_vector_load({{std::stof(argv[2]), argv[1]}});
    if (argc != 3 || loaded.n_embd < 1) return 1;
    std::fwrite(&loaded.n_embd, sizeof(int), 1, stdout);
    std::fwrite(loaded.data.data(), sizeof(float), loaded.data.size(), stdout);
    return 0;
}
"""


class ControlVectorLoader:
    """The program, built in `folder`. Where it cannot be built the test is skipped; under CI it fails."""

    def __init__(self, folder: Path) -> None:
        self._libraries = Path(sysconfig.get_path("purelib")) / "lib"
        self._program = folder / "load"
        words = ["g++", "-std=c++17", "-x", "c++", "-", "-o", self._program, f"-L{self._libraries}", "-lllama-common"]
        words.append(f"-Wl,-rpath-link,{self._libraries}")
        try:
            subprocess.run(words, input=_PROGRAM, text=True, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = f"llama.cpp's loader cannot be built here: {getattr(error, 'stderr', None) or error}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(said)

    def __call__(self, path: Path, strength: float) -> torch.Tensor | None:
        """What llama.cpp adds to blocks 1, 2, ..., a row each; None if it refuses the file."""
        surroundings = {**os.environ, "LD_LIBRARY_PATH": str(self._libraries)}
        words = [self._program, path, f"{strength:.9g}"]
        done = subprocess.run(words, capture_output=True, check=False, env=surroundings)
        if done.returncode == 1:
            return None
        assert done.returncode == 0, done.stderr
        (width,) = np.frombuffer(done.stdout[:4], dtype=np.int32)
        return torch.from_numpy(np.frombuffer(done.stdout[4:], dtype=np.float32).reshape(-1, width).copy())
