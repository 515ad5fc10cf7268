"""The commands with ``--engine vllm``, beside the same ones in PyTorch. Run by tests/models/engines/test_vllm.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from persona_interp.storage import read_json
from persona_interp.vectors.persona_vector import PersonaVector

ENGINES = ("torch", "vllm")
BRIEF = ("--model", "organism-llama", "--dtype", "float32", "--max-new-tokens", 6)


def test_commands_extract_score_layers_and_evaluate_as_in_pytorch(run: Callable, trait_file: Path) -> None:
    words = (*BRIEF, "--trait", trait_file)
    vectors: list[PersonaVector] = []
    for engine in ENGINES:
        ran = run(
            "extract-vectors", *words, "--samples", 1, "--judge", "none", "--layer-scores", "none", "--engine", engine,
            "--output", f"vector-{engine}.json",
        )  # fmt: skip
        assert ran.code == 0, ran.err
        vectors.append(PersonaVector.load(f"vector-{engine}.json"))
    ours, theirs = vectors
    assert theirs.model == ours.model
    assert float(torch.cosine_similarity(ours.directions, theirs.directions, dim=1).min()) > 0.9999

    scores: list[list[float]] = []
    for engine in ENGINES:
        given = (
            "--vectors",
            f"vector-{engine}.json",
            "--method",
            "likelihood",
            "--pairs",
            3,
            "--output",
            f"layers-{engine}.json",
        )
        ran = run("layer-effectiveness", *words, *given, "--engine", engine)
        assert ran.code == 0, ran.err
        scores.append(list(PersonaVector.load(f"vector-{engine}.json").listed("effectiveness")))
    assert scores[1] == pytest.approx(scores[0], abs=2e-3)
    assert read_json(Path("layers-vllm.json"), "layers")["best"] == read_json(Path("layers-torch.json"), "layers")["best"]

    PersonaVector(torch.randn_like(ours.directions), ours.layers, "quiet", ours.model).save("quiet.json")
    given = ("--vectors", "vector-torch.json", "--layer", 2, "--coefficients", "0", "1", "--random", 1, "--other", "quiet.json")
    ran = run("evaluate", *words, *given, "--judge", "contrast", "--engine", "vllm", "--output", "evaluation")
    assert ran.code == 0, ran.err
