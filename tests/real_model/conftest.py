"""What the tests on a real model share: SmolLM2-135M-Instruct on both engines, and one small extraction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real import smollm2, smollm2_gguf
from real_model_claims import N_QUESTIONS, SAMPLING, Extracted

from persona_interp.models.load import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract


@pytest.fixture(scope="session")
def model() -> SteerableModel:
    return smollm2()


@pytest.fixture(scope="session")
def in_llama_cpp() -> Iterator[SteerableModel]:
    with load_model(smollm2_gguf(), engine="llama.cpp") as model:
        yield model


@pytest.fixture(scope="session")
def trait() -> Trait:
    return load_trait("silly")


@pytest.fixture(scope="session")
def extracted(model: SteerableModel, trait: Trait, tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    """Thirty answers of 24 tokens, none of them filtered."""
    folder = tmp_path_factory.mktemp("real") / "silly.run"
    questions = trait.extraction_questions[:N_QUESTIONS]
    return Extracted(extract(model, trait, judge=None, questions=questions, samples=1, sampling=SAMPLING, folder=folder), folder)
