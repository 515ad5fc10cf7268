"""The commands with ``--engine vllm``, beside the same ones in PyTorch. Run by tests/models/engines/test_vllm.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from persona_interp.storage import read_json, read_jsonl
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = "organism-llama"
BRIEF = ("--model", MODEL, "--dtype", "float32", "--max-new-tokens", 12)


@pytest.fixture
def vectors(run: Callable) -> tuple[Path, Path]:
    for engine in ("torch", "vllm"):
        words = ("--trait", "formal", "--samples", 1, "--output", f"{engine}.json", "--layer-scores", "likelihood")
        ran = run("extract-vectors", *BRIEF, *words, "--engine", engine)
        assert ran.code == 0, ran.err
    return Path("torch.json"), Path("vllm.json")


def test_commands_extract_score_layers_and_evaluate_as_in_pytorch(run: Callable, vectors: tuple[Path, Path]) -> None:
    ours, theirs = map(PersonaVector.load, vectors)
    assert theirs.model == ours.model
    cosines = torch.cosine_similarity(ours.directions, theirs.directions, dim=1)
    assert float(cosines.min()) > 0.9999
    assert theirs.listed("effectiveness") == pytest.approx(ours.listed("effectiveness"), abs=1e-3)

    words = ("--trait", "formal", "--vectors", vectors[0], "--method", "likelihood", "--pairs", 8)
    for engine in ("torch", "vllm"):
        ran = run("layer-effectiveness", *BRIEF, *words, "--engine", engine, "--output", f"layers-{engine}.json")
        assert ran.code == 0, ran.err
    one, other = (read_json(Path(f"layers-{engine}.json"), "layers") for engine in ("torch", "vllm"))
    assert other["best"] == one["best"]

    words = ("--vectors", vectors[0], "--trait", "formal", "--samples", 1, "--coefficients", "1", "--layer", "2")
    for engine in ("torch", "vllm"):
        ran = run("evaluate", *BRIEF, *words, "--engine", engine, "--output", f"evaluation-{engine}")
        assert ran.code == 0, ran.err
    texts = [
        sorted(entry["response"] for path in Path(f"evaluation-{engine}").rglob("*.jsonl") for entry in read_jsonl(path))
        for engine in ("torch", "vllm")
    ]
    assert texts[0] == texts[1]
