"""An organism, personas for it, and a server that serves both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_side import Running, made_vector, running

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

NAMES = ("silly", "calm", "formal")


@pytest.fixture(scope="session")
def organism() -> SteerableModel:
    return load_model("organism-qwen2", dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def vectors(organism: SteerableModel) -> dict[str, PersonaVector]:
    return {name: made_vector(organism, place, name) for place, name in enumerate(NAMES)}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, vectors) -> Callable[[], Path]:
    """A new folder that holds the vectors."""

    def made() -> Path:
        folder = tmp_path_factory.mktemp("personas")
        for name, vector in vectors.items():
            vector.save(folder / f"{name}.json")
        return folder

    return made


@pytest.fixture(scope="module")
def server(organism: SteerableModel, folder_of) -> Iterator[Running]:
    with running(organism, folder_of(), concurrent=8) as found:
        yield found
