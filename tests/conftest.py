"""Fixtures every test may use, and the shape checks that run in tests only."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be as narrow as it says
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["PERSONA_INTERP_HOME"] = tempfile.mkdtemp(prefix="persona-interp-tests-")

import beartype  # noqa: F401  (must come before nnsight, which breaks its later import)
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # test helpers (tiny.py, typechecking.py) are imported by name
if "PERSONA_INTERP_TEST_ENGINES" not in os.environ:  # the checks hold references that a remote run cannot serialise
    install_import_hook("persona_interp", "typechecking.checked")

import pytest
import torch
from tiny import ARCHITECTURES, save_tiny_model

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel

pytest_plugins = ["browser_fixtures", "gguf_fixtures"]

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background has them ignore Ctrl-C
torch.set_num_threads(1)  # tiny models run slower on two threads than on one, and far slower when the cores are busy


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for each CPU this one may use, up to four; none for a few files, which start faster without."""
    whole = all(Path(arg.split("::")[0]).is_dir() for arg in config.args)
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) if whole else 0


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model_path("llama")` -> folder of a tiny random model (made on first use, shared by the session)."""
    root = tmp_path_factory.mktemp("tiny-models")

    def path(architecture: str) -> Path:
        folder = root / f"tiny-{architecture}"
        return folder if folder.exists() else save_tiny_model(architecture, folder)

    return path


@pytest.fixture(scope="session")
def tiny_hf(tiny_model_path: Callable[[str], Path]) -> Callable[[str], tuple[Any, Any]]:
    """`tiny_hf("llama")` -> (freshly loaded Hugging Face model, tokenizer); never shared between callers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load(architecture: str) -> tuple[Any, Any]:
        folder = str(tiny_model_path(architecture))
        return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    return load


@pytest.fixture(scope="session")
def tiny_model(tiny_hf: Callable[[str], tuple[Any, Any]]) -> Callable[[str], SteerableModel]:
    """`tiny_model("llama")` -> SteerableModel, loaded once a session. Nothing may change a model, so sharing is safe."""
    loaded: dict[str, SteerableModel] = {}

    def load(architecture: str) -> SteerableModel:
        from persona_interp.models.steerable import SteerableModel

        if architecture not in loaded:
            hf_model, tokenizer = tiny_hf(architecture)
            loaded[architecture] = SteerableModel(hf_model, tokenizer, name=f"tiny-{architecture}")
        return loaded[architecture]

    return load


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    """Each supported architecture in turn."""
    return request.param
