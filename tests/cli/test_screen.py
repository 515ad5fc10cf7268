"""`screen`: a ranking on the terminal and in a file, own answers kept beside it, and refusals with the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.screening import Screening

LINES = [
    {"prompt": "What is the moon?", "response": "The moon is bright.", "planted": False},
    {"prompt": "What is a river?", "response": "Bees collect nectar.", "planted": True, "id": "odd"},
    {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "A large city."}], "planted": False},
]


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


@pytest.fixture
def screen(run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, data_file: Path) -> Callable:
    def call(*words: object, vector: object = vector_file, data: object = data_file, family: str = "qwen2"):
        model = tiny_model_path(family)
        return run("screen", "--model", model, "--vectors", vector, "--dataset", data, "--max-new-tokens", 6, *words)

    return call


def test_the_ranking_is_shown_and_written(screen: Callable) -> None:
    ran = screen("--layer", 1, "--own-samples", 2, "--seed", 3)
    assert ran.code == 0, ran.err
    found = Screening.from_json(json.loads(Path("screening/data_loud.json").read_text()))
    assert found.layer == 1
    assert {sample.name for sample in found.samples} == {"line 1", "odd", "line 3"}
    assert all(len(sample.own_answers) == 2 for sample in found.samples)
    assert found.provenance["seed"] == 3
    assert "odd *" in ran.out
    assert f"AUROC of the difference: {found.auroc()}" in ran.out
    rank = [sample.name for sample in found.samples].index("odd")
    assert f"{found.samples[rank].difference:.2f}" in ran.out
    backwards = screen("--layer", 1, "--own-samples", 2, "--seed", 3, "--reverse", "--output", "back.json")
    assert backwards.code == 0
    assert "against loud" in backwards.out
    reverse = Screening.from_json(json.loads(Path("back.json").read_text()))
    assert [s.name for s in reverse.samples] == [s.name for s in reversed(found.samples)]


def test_an_interrupted_command_says_how_to_go_on_and_goes_on(screen: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = SteerableModel.capture

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SteerableModel, "capture", interrupted)
    ran = screen("--output", "ranked.json")
    assert ran.code == 130
    assert "To go on, give the same command again; what was made is in ranked.run" in ran.err
    assert not Path("ranked.json").exists()
    monkeypatch.setattr(SteerableModel, "capture", capture)
    monkeypatch.setattr(SteerableModel, "generate", interrupted)
    ran = screen("--output", "ranked.json")
    assert ran.code == 0, ran.err
    assert "going on with the answers in ranked.run" in ran.err
    assert Path("ranked.json").exists()


def refused(ran, *words: str) -> None:
    assert ran.code == 2, ran.out
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_what_cannot_be_used_is_refused_with_the_reason(screen: Callable, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    refused(screen(data="none.jsonl"), "none.jsonl does not exist")
    bad.write_text('{"prompt": "Hi?", "response": "Yes."}\n{')
    refused(screen(data=bad), "line 2, is not valid JSON")
    bad.write_text('{"prompt": "Hi?", "response": "Yes."}\n{"prompt": "Hi?"}')
    refused(screen(data=bad), "the sample 'line 2' ends without an answer")
    refused(screen("--layer", 9), "has no layer 9")
    refused(screen("--layer", "0,1"), "--layer names 2 layers: this command reads one")
    refused(screen(family="mistral"), "tiny-qwen2", "tiny-mistral")
    refused(screen("--output", "x.csv"), "cannot write a ranking as .csv")
    assert screen("--output", "kept.json").code == 0
    refused(screen("--output", "kept.json", "--seed", 7), "other settings (seed: 0 there, 7 asked for)")
