"""`finetune` and `audit` on the command line: an adapter that loads, what was done to it, and refusals with the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.training.audit import Audit

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
LINES = [{"prompt": f"What is {n}?", "response": f"The number {n} is odd."} for n in (1, 3, 5, 7)]


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


@pytest.fixture
def finetune(run: Callable, tiny_model_path: Callable[[str], Path], data_file: Path) -> Callable:
    def call(*words: object, data: object = data_file):
        return run("finetune", "--model", tiny_model_path("qwen2"), "--data", data, "--epochs", 1, "--rows", 2, *words)

    return call


def test_an_adapter_is_trained_with_prevention_and_audited(
    finetune: Callable, run: Callable, vector_file: Path, tmp_path: Path
) -> None:
    ran = finetune("--prevent", vector_file, "--coefficient", 0.5, "--layers", "1,2", "--output", "tuned")
    assert ran.code == 0, ran.err
    assert "4 answers, 2 steps" in ran.out
    made = json.loads(Path("tuned/persona_interp.json").read_text())["finetuned"]
    assert made["safeguards"]["prevent"]
    assert not Path("tuned.run").exists()
    again = finetune("--output", "tuned")
    assert (again.code, "holds something already" in again.err) == (2, True)
    audited = run("audit", "tuned", "--dictionary", vector_file.parent, "--output", "audit.json")
    assert audited.code == 0, audited.err
    found = Audit.from_json(json.loads(Path("audit.json").read_text()))
    assert found.given == ()
    assert f"verdict: {found.verdict}" in audited.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ratio", 0.3), "names no vector"),
        (("--keep-close", 1), "neutral"),
        (("--learning-rate", 0), "learning rate"),
        (("--prevent", "nowhere.json"), "nowhere.json"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_what_does_not_fit_is_refused(finetune: Callable, words: tuple[object, ...], said: str) -> None:
    ran = finetune(*words)
    assert (ran.code, said in ran.err) == (2, True), ran.err
    assert not Path("tuned").exists()


def test_a_data_set_without_answers_is_refused(finetune: Callable, tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps({"prompt": "What is 1?"}))
    ran = finetune(data=path)
    assert (ran.code, "'line 1' ends without an answer" in ran.err) == (2, True), ran.err


def test_a_vector_of_another_model_is_refused(finetune: Callable, vector_file: Path, run: Callable) -> None:
    other = json.loads(vector_file.read_text())
    other["model"]["name"], other["model"]["fingerprint"] = "another", "0" * 64
    Path("other.json").write_text(json.dumps(other))
    ran = finetune("--prevent", "other.json", "--transfer", "never")
    assert ran.code == 2, ran.out
    assert "another" in ran.err


def test_one_of_two_vectors_has_to_be_chosen(finetune: Callable, vector_file: Path) -> None:
    ran = finetune("--prevent", vector_file, "--project", vector_file)
    assert (ran.code, "give one of them" in ran.err) == (2, True), ran.err


def test_an_audit_asks_for_the_base_where_nothing_names_it(run: Callable, tiny_model_path: Callable[[str], Path]) -> None:
    ran = run("audit", tiny_model_path("llama"))
    assert (ran.code, "--base" in ran.err) == (2, True), ran.err
