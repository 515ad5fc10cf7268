"""Shipped organisms as GGUF files and as the PyTorch models they were exported from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_vector_loader import ControlVectorLoader

from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.registry import load_model
from persona_interp.organisms.gguf_export import export_gguf, quantize_gguf


@pytest.fixture(scope="session")
def gguf_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`gguf_path("organism-llama", "q8_0")` -> its file, made once a session; float32 without a kind."""
    folder = tmp_path_factory.mktemp("gguf")

    def path(name: str, kind: str = "f32") -> Path:
        file = folder / f"{name}-{kind}.gguf"
        if file.exists():
            return file
        if kind in ("f32", "f16"):
            return export_gguf(load_model(name, dtype="float32"), file, dtype=kind)
        return quantize_gguf(path(name), file, kind)

    return path


@pytest.fixture(scope="session")
def gguf_model(gguf_path: Callable[..., Path]) -> Iterator[Callable[..., LlamaCppModel]]:
    """`gguf_model("organism-llama")` -> the loaded file, once a session. Nothing may change a model, so sharing is safe."""
    loaded: dict[tuple[str, str], LlamaCppModel] = {}

    def load(name: str, kind: str = "f32") -> LlamaCppModel:
        if (name, kind) not in loaded:
            loaded[name, kind] = LlamaCppModel(gguf_path(name, kind), name=name)
        return loaded[name, kind]

    yield load
    for model in loaded.values():
        model.close()


@pytest.fixture(scope="session")
def loaded_by_llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> ControlVectorLoader:
    """`loaded_by_llama_cpp(path, 1.5)` -> what llama.cpp's own loader makes of a control-vector file."""
    return ControlVectorLoader(tmp_path_factory.mktemp("loader"))
