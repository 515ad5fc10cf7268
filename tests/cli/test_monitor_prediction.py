"""`monitor-prediction`: conditions by default or from a file, correlations on the terminal, a file and a figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.monitoring.prediction import Prediction


@pytest.fixture
def predict(run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path) -> Callable:
    def call(*words: object, family: str = "qwen2"):
        base = ("--model", tiny_model_path(family), "--vectors", vector_file, "--max-new-tokens", 4, "--samples", 1)
        return run("monitor-prediction", *base, *words)

    return call


def test_conditions_from_the_trait_are_measured_shown_and_written(predict: Callable, trait_file: Path) -> None:
    ran = predict("--trait", trait_file, "--judge", "contrast", "--layer", 2, "--output", "out")
    assert ran.code == 0, ran.err
    found = Prediction.from_json(json.loads(Path("out/prediction.json").read_text()))
    assert found.conditions == (*(f"against {n}" for n in range(1, 6)), "no system prompt", *(f"for {n}" for n in range(1, 6)))
    assert len(found.prompts) == 11 * 2
    assert f"across all prompts: r = {found.across}" in ran.out
    assert f"within conditions: r = {found.within}" in ran.out
    assert "plotly-graph-div" in Path("out/prediction.html").read_text()


def test_own_prompts_are_grouped_by_system_prompt(predict: Callable, trait_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"What is number {n}?", "system": "Shout!" if n % 2 else "Whisper."} for n in range(6)]
    path.write_text("\n".join(map(json.dumps, lines)))
    words = ("--trait", trait_file, "--judge", "contrast", "--prompts", path, "--output", "found.json")
    assert predict(*words).code == 0
    assert Prediction.from_json(json.loads(Path("found.json").read_text())).conditions == ("Whisper.", "Shout!")


def refused(ran, *words: str) -> None:
    assert ran.code == 2, ran.out
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_what_cannot_be_used_is_refused(predict: Callable, trait_file: Path) -> None:
    refused(predict(), "unknown trait 'loud'")
    refused(predict("--trait", trait_file, "--judge", "grammar"), "loud")
    refused(predict("--trait", trait_file, "--judge", "nobody"), "unknown judge 'nobody'")
    refused(predict("--trait", trait_file, "--prompts", "none.jsonl"), "none.jsonl does not exist")
    refused(predict("--trait", trait_file, "--layer", "1,2"), "--layer names 2 layers")
    refused(predict("--trait", trait_file, family="mistral"), "tiny-mistral")
