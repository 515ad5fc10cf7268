"""`finetuning-shift`: two checkpoints in, a table and a file out, one model in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from persona_interp.monitoring.shift import FinetuningShift


@pytest.fixture
def moved_path(tiny_hf: Callable, tmp_path: Path) -> Path:
    hf_model, tokenizer = tiny_hf("qwen2")
    with torch.no_grad():
        hf_model.get_input_embeddings().weight += 0.1
    hf_model.save_pretrained(tmp_path / "moved")
    tokenizer.save_pretrained(tmp_path / "moved")
    return tmp_path / "moved"


@pytest.fixture
def shift(run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, moved_path: Path) -> Callable:
    def call(*words: object, finetuned: object = moved_path):
        base = tiny_model_path("qwen2")
        return run("finetuning-shift", "--base", base, "--finetuned", finetuned, "--vectors", vector_file, *words)

    return call


def refused(ran, *words: str) -> None:
    assert ran.code == 2, ran.out
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_the_shift_is_shown_and_written(shift: Callable, trait_file: Path) -> None:
    ran = shift("--trait", trait_file, "--layer", "1,2", "--output", "shift.json")
    assert ran.code == 0, ran.err
    found = FinetuningShift.from_json(json.loads(Path("shift.json").read_text()))
    assert [at.layer for at in found.traits[0].layers] == [1, 2]
    assert found.n_prompts == 2  # the trait's evaluation questions
    assert (found.base.name, found.finetuned.name) == ("tiny-qwen2", "moved")
    assert f"{found.traits[0].layers[0].shift:+.2f} [" in ran.out
    assert "by chance" in ran.out


def test_prompts_may_come_from_a_file_with_answers(shift: Callable, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"What is number {n}?", "response": "A city."}) for n in range(4)))
    ran = shift("--prompts", path, "--positions", "response_avg", "--output", "shift.json")
    assert ran.code == 0, ran.err
    assert json.loads(Path("shift.json").read_text())["positions"] == "response_avg"


def test_what_cannot_be_used_is_refused(shift: Callable, trait_file: Path, tiny_model_path: Callable[[str], Path]) -> None:
    refused(shift(), "unknown trait 'loud'")
    refused(shift("--prompts", "none.jsonl"), "none.jsonl does not exist")
    refused(shift("--trait", trait_file, finetuned="nowhere/here-at-all"), "nowhere/here-at-all")
    refused(shift("--trait", trait_file, finetuned=tiny_model_path("mistral")), "tiny-mistral")
    refused(shift("--trait", trait_file, "--layer", 9), "has no layer 9")
