"""`evaluate`: a table and a verdict on the terminal, a file others can read, and work that outlives a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.verdict import verdict
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

LAYER = ("--layer", 1)


@pytest.fixture
def other_file(tmp_path: Path, tiny_model: Callable[[str], SteerableModel]) -> Path:
    model = tiny_model("qwen2")
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(5))
    vector = PersonaVector(directions, tuple(range(model.n_layers)), "quiet", model.identity)
    return vector.save(tmp_path / "quiet_vector.json")


@pytest.fixture
def words(tiny_model_path: Callable[[str], Path], vector_file: Path, trait_file: Path, other_file: Path) -> Callable:
    """What to type, as a list: `words("--seed", 3)`."""

    def make(*more: object, family: str = "qwen2", trait: object = trait_file, vector: object = vector_file) -> list[str]:
        given = ["evaluate", "--model", tiny_model_path(family), "--vectors", vector, "--trait", trait, "--judge", "contrast"]
        given += ["--coefficients", "-1.0", "0.0", "1.0", "--max-new-tokens", "6", "--random", "2", "--other", other_file]
        return [str(word) for word in (*given, *more)]

    return make


@pytest.fixture
def evaluate(run: Callable, words: Callable) -> Callable:
    return lambda *more, **options: run(*words(*more, **options))


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every call of `generate`."""
    made: list[int] = []
    generate = SteerableModel.generate

    def spy(self: SteerableModel, conversations: Sequence[Conversation], **options: Any) -> Any:
        made.append(len(conversations))
        return generate(self, conversations, **options)

    monkeypatch.setattr(SteerableModel, "generate", spy)
    return made


def test_a_table_a_verdict_and_a_file(evaluate: Callable) -> None:
    ran = evaluate(*LAYER, "--output", "result.json", "--report", "report.md", "page.html", "--seed", 3)
    assert ran.code == 0, ran.err
    data = json.loads(Path("result.json").read_text())
    found = Evaluation.from_json(data)
    assert data["trait"] == "loud"
    assert data["model"].endswith("tiny-qwen2")
    assert [each["coefficient"] for each in data["results"]] == [-1.0, 0.0, 1.0]
    assert found.layers == (1,)
    assert found.provenance["seed"] == 3
    assert len(found.controls.random) == 2
    assert found.controls.other_vector.name == "quiet"
    for heading in ("coefficient", "ratio", "loud", "coherence", "random", "quiet", "an answer"):
        assert heading in ran.out
    for row in ("-1", "0", "+1"):
        assert re.search(rf"│ +{re.escape(row)} │", ran.out)
    said = " ".join(ran.out.split())
    assert verdict(found) in said
    assert "Only 2 questions were asked" in said
    assert "gave no coherence" in said  # this judge scores none
    assert f"slope {found.slope.value:.1f}" in said
    assert Path("report.md").read_text().startswith("# loud in ")
    assert "<h2>Verdict</h2>" in Path("page.html").read_text()
    assert "written: report.md" in ran.err
    assert "answers and scores: result.run" in ran.err


def test_one_prompt_has_no_interval_and_the_command_says_so(evaluate: Callable) -> None:
    ran = evaluate(*LAYER, "--num-prompts", 1, "--output", "one.json")
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    assert "Only one question was asked" in said
    assert "Whether this vector steers cannot be told" in said
    results = json.loads(Path("one.json").read_text())["results"]
    assert all(each["trait_score"]["low"] is None and each["trait_score"]["high"] is None for each in results)


def test_where_results_go_by_default(evaluate: Callable, generated: list[int]) -> None:
    assert evaluate(*LAYER).code == 0
    first = json.loads(Path("evaluations/tiny-qwen2_loud.json").read_text())
    generated.clear()
    ran = evaluate(*LAYER)
    assert generated == []
    assert "going on with the answers in evaluations/tiny-qwen2_loud.run" in ran.err
    again = json.loads(Path("evaluations/tiny-qwen2_loud.json").read_text())
    assert again["results"] == first["results"]
    assert again["controls"] == first["controls"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(evaluate: Callable, words: Callable, generated: list[int], tmp_path: Path) -> None:
    """The command itself, ended by SIGKILL while it answers; then once more, against one that was never cut short."""
    options = (*LAYER, "--samples", 6)
    cut = words(*options, "--output", "cut.json", "--batch-size", 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "persona_interp", *cut],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    answers = tmp_path / "cut.run" / "answers.jsonl"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if answers.exists() and answers.read_bytes().count(b"\n") >= 5:
                break
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut.json").exists()
    kept = answers.read_bytes().count(b"\n")
    total = 12 * (1 + 2 + 2 + 2 + 2 * 2)
    assert 5 <= kept < total
    ran = evaluate(*options, "--output", "cut.json")
    assert ran.code == 0, ran.err
    assert "going on with the answers in cut.run" in ran.err
    assert sum(generated) == total - kept
    generated.clear()
    assert evaluate(*options, "--output", "whole.json").code == 0
    assert sum(generated) == total
    resumed, whole = (json.loads(Path(name).read_text()) for name in ("cut.json", "whole.json"))
    assert [each["examples"] for each in resumed["results"]] == [each["examples"] for each in whole["results"]]
    for one, other in zip(resumed["results"], whole["results"], strict=True):
        assert one["trait_scores"] == pytest.approx(other["trait_scores"], abs=0.1)


def test_an_interrupted_command_says_how_to_go_on(evaluate: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    likelihoods = SteerableModel.log_likelihoods

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SteerableModel, "log_likelihoods", interrupted)
    ran = evaluate(*LAYER, "--output", "x.json")
    assert ran.code == 130
    assert "To go on, give the same command again; what was made is in x.run" in ran.err
    assert not Path("x.json").exists()
    monkeypatch.setattr(SteerableModel, "log_likelihoods", likelihoods)
    monkeypatch.setattr(SteerableModel, "generate", interrupted)  # nothing is left to generate
    assert evaluate(*LAYER, "--output", "x.json").code == 0


def refused(ran: Any, *words: str) -> None:
    assert ran.code == 2, ran.out
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_what_cannot_be_used_is_refused_with_the_reason(
    evaluate: Callable, trait_file: Path, vector_file: Path, tmp_path: Path
) -> None:
    refused(evaluate("--coefficients", "0", "0.0"), "--coefficients are all 0")
    refused(evaluate("--coefficients", "1", "1"), "each once")
    refused(evaluate("--layer", 9), "has no layer 9")
    refused(evaluate("--other", vector_file), "the other vector is of trait 'loud' too")
    refused(evaluate("--output", "x.csv"), "cannot write an evaluation as .csv", "--report")
    refused(evaluate("--report", "x.pdf"), "cannot write a report as .pdf", ".html or a .md")
    refused(evaluate(vector="none.json"), "none.json does not exist")
    refused(evaluate(trait="nonsense"), "unknown trait 'nonsense'")
    refused(evaluate(family="mistral"), "tiny-qwen2", "tiny-mistral")
    alone = tmp_path / "alone.json"
    trait = json.loads(trait_file.read_text())
    alone.write_text(json.dumps(trait | {"n_extraction": 4}))
    refused(evaluate(trait=alone), "trait 'loud' has no evaluation questions", "n_extraction")
    assert not list(Path().glob("*.run"))
