"""Judges validated against the exact scores of an organism: better than their controls, kept, resumed, refused elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from persona_interp.cli import main
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.studies.judges.garbage_texts import KINDS, garbage_texts
from persona_interp.studies.judges.judge_validation import JudgeValidation, judges_markdown
from persona_interp.studies.judges.validate_judges import validate_judges
from persona_interp.studies.judges.validations_file import validations_from, validations_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged")


@pytest.fixture(scope="module")
def found(folder: Path) -> JudgeValidation:
    """Through the command, on the smallest organism, one answer a question."""
    words = ["validate-judges", "--model", "organism-gpt2", "--traits", "silly", "--samples", "1"]
    assert main([*words, "--output", str(folder / "judges.json")]) == 0
    (validation,) = validations_from(json.loads((folder / "judges.json").read_text(encoding="utf-8")), JudgeValidation)
    return validation


@pytest.mark.slow
def test_judges_agree_with_the_truth_and_their_controls_do_not(found: JudgeValidation) -> None:
    for judge, target in (("contrast", "trait"), ("perplexity", "coherence")):
        assert found.of(judge, target).auroc.low > 0.9
        assert found.of(judge, target).pearson.value > 0.7
        shuffled = found.of("shuffled", target).auroc
        assert shuffled.low < 0.5 < shuffled.high
        assert found.of("length", target).auroc.high < found.of(judge, target).auroc.low
    assert found.guard.garbage_caught == found.guard.garbage >= 200
    assert found.guard.good_caught <= 0.02 * found.guard.good


@pytest.mark.slow
def test_what_is_written_reads_back_and_says_what_was_not_measured(found: JudgeValidation, folder: Path) -> None:
    text = (folder / "judges.md").read_text(encoding="utf-8")
    assert text == judges_markdown([found])
    assert text.count("not measured here") == 4
    data = validations_json([found])
    again = validations_from(json.loads(json.dumps(data)), JudgeValidation)
    assert validations_json(again) == data
    data["validations"][0]["answers"]["exact_trait"].pop()
    with pytest.raises(FileFormatError, match="different lengths"):
        validations_from(data, JudgeValidation)
    del data["validations"][0]["answers"]
    with pytest.raises(FileFormatError, match="'answers' is missing"):
        validations_from(data, JudgeValidation)


@pytest.mark.slow
def test_a_second_run_generates_and_scores_nothing(found: JudgeValidation, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_to_do(_judge: object, _trait: object, exchanges: Sequence[object]) -> list[object]:
        assert not exchanges
        return []

    kept = {path: path.stat().st_size for path in (folder / "judges.run").rglob("*.*")}
    assert kept
    monkeypatch.setattr(LikelihoodContrastJudge, "judge", nothing_to_do)
    again = validate_judges(load_model("organism-gpt2"), "silly", samples=1, folder=folder / "judges.run")
    assert again.judges == found.judges
    assert {path: path.stat().st_size for path in (folder / "judges.run").rglob("*.*")} == kept


def test_only_an_organism_knows_the_truth(tiny_model: Callable[[str], SteerableModel]) -> None:
    with pytest.raises(InvalidInputError, match="no model organism"):
        validate_judges(tiny_model("qwen2"), "silly")
    with pytest.raises(InvalidInputError, match="samples is 0"):
        validate_judges(load_model("organism-gpt2"), "silly", samples=0)


def test_garbage_is_made_of_answers_and_the_same_each_time(tiny_model: Callable[[str], SteerableModel]) -> None:
    tokenizer = tiny_model("qwen2").tokenizer
    own = [("What is tea?", "Tea is a warm drink. People like it."), ("What is this?", "Three words only.")]
    texts = garbage_texts(own, tokenizer, each=5, seed=1)
    assert tuple(texts) == KINDS
    assert {len(found) for found in texts.values()} == {5}
    assert texts == garbage_texts(own, tokenizer, each=5, seed=1)
    assert {question for found in texts.values() for question, _ in found} == {"What is tea?"}
    assert all(sorted(text.split()) == sorted(own[0][1].split()) for _, text in texts["shuffled"])
