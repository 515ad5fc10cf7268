"""What the tests on a real model share: SmolLM2-135M-Instruct on both engines, and one small extraction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real import smollm2, smollm2_gguf

from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.modulation.load import load_model
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=24)
N_QUESTIONS = 3
LAYER = 12
"""Early enough to change the answer, late enough to hold the trait; neighbours steer as well."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@dataclass(frozen=True)
class Extracted:
    """A vector, and the folder with the answers it was made from."""

    vector: PersonaVector
    folder: Path

    def coefficient(self, ratio: float) -> float:
        """Of a push at `LAYER` that is this much of the residual stream."""
        own = self.vector.norm_ratios[LAYER]
        assert own is not None
        return ratio / own


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
