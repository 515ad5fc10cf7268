"""What the tests of the command line share: a way to run it, a small trait, and a vector of the tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from persona_interp.cli import main
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class Ran:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`run("info", "v.json")` in an empty folder, as a person would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))

    def call(*words: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # argparse's own way out
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return call


@pytest.fixture
def trait_file(tmp_path: Path) -> Path:
    """A trait with two extraction questions: ten pairs at one sample each."""
    path = tmp_path / "loud.json"
    trait = {
        "name": "loud",
        "description": "Shouts.",
        "instruction": [{"pos": f"Shout, way {n}.", "neg": f"Whisper, way {n}."} for n in range(5)],
        "questions": ["What is the moon?", "How do bees make honey?", "What is a river?", "What is a city?"],
        "n_extraction": 2,
        "eval_prompt": "Rate from 0 to 100 how loud this is. {question} {answer}",
    }
    path.write_text(json.dumps(trait))
    return path


@pytest.fixture
def vector_file(tmp_path: Path, tiny_model: Callable[[str], SteerableModel]) -> Path:
    """A strong random vector of the tiny Qwen2 at every layer."""
    model = tiny_model("qwen2")
    generator = torch.Generator().manual_seed(0)
    directions = 20 * torch.randn(model.n_layers, model.d_model, generator=generator)
    vector = PersonaVector(directions, tuple(range(model.n_layers)), "loud", model.identity)
    return vector.save(tmp_path / "loud_vector.json")
