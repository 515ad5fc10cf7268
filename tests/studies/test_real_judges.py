"""Judges tried on answers that were asked for a trait and against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from persona_interp.cli import main
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.measures.silliness import HEAD, TEXTS
from persona_interp.judges.text_head import TextHead, text_features
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import read_json
from persona_interp.studies.judges.real_answers import AGAINST, ASKED_UNDER, FOR, JUDGED_UNDER
from persona_interp.studies.judges.real_validation import (
    Column,
    Damaged,
    RealValidation,
    real_markdown,
)
from persona_interp.studies.judges.silliness import labelled_texts, train_silliness
from persona_interp.studies.judges.validate_on_real import validate_on_real
from persona_interp.studies.judges.validations_file import validations_from, validations_json
from persona_interp.studies.plotting.real_judges import real_judges_figure
from persona_interp.traits import load_trait

RECORDED = Path(__file__).parents[1] / "recorded"


def a_validation(**columns: Sequence[float | None]) -> RealValidation:
    identity = ModelIdentity.from_json(read_json(RECORDED / "model_identity.json", "model identity"))
    n = len(next(iter(columns.values()))) // 2
    return RealValidation(
        trait="cheerful",
        model=identity,
        questions=tuple(f"{place}?" for place in range(n)) * 2,
        conditions=(FOR,) * n + (AGAINST,) * n,
        columns=tuple(Column(name, name != "length", tuple(scores)) for name, scores in columns.items()),
        coherence=(Damaged("repetition", (0.0, 0.1), (0.8, None)),),
        not_measured={"local": "it gave no numbers"},
    )


def test_a_judge_that_tells_is_used_and_others_are_not() -> None:
    told = [*range(10, 20), *range(10)]
    gaps = [*range(10, 16), *[None] * 4, *range(6), *[None] * 4]
    found = a_validation(contrast=told, valence=[*range(10)] * 2, length=[5] * 20, afinn=gaps)
    assert found.auroc("contrast").value == 1
    assert found.used("contrast")
    assert found.auroc("valence").value == 0.5
    assert not found.used("valence")
    assert found.auroc("afinn").value == 1
    assert not found.used("afinn")  # it leaves two answers of five without a score
    assert found.n_missing("afinn") == 8
    assert 0.1 < (found.shuffled("contrast").value or 0) < 0.9
    assert found.spearman("contrast", "valence") == pytest.approx(1)
    assert found.spearman("contrast", "length") is None
    assert found.coherence_auroc("repetition").value == 1


def test_the_table_says_what_is_used_and_what_was_not_measured() -> None:
    found = a_validation(contrast=[2.0, 3.0, 0.0, 1.0], length=[1.0, 1.0, 1.0, 1.0], hedging=[0.0, 1.0, 0.0, 1.0])
    table = real_markdown([found])
    rows = {row.split(" | ")[2]: row for row in table.splitlines() if row.startswith("| ")}
    assert rows["contrast"].endswith("| yes |")
    assert rows["*length*"].endswith("| control |")
    assert rows["hedging"].endswith("| no |")
    assert "not measured: it gave no numbers" in rows["local"]


def test_what_is_written_reads_back() -> None:
    found = a_validation(contrast=[2.0, 3.0, 0.0, None], length=[1.0, 2.0, 1.0, 1.0])
    data = json.loads(json.dumps(validations_json([found])))
    assert validations_from(data, RealValidation) == (found,)
    assert data["validations"][0]["judges"][0]["auroc"]["value"] == 1
    del data["validations"][0]["columns"]
    with pytest.raises(FileFormatError, match="'columns' is missing"):
        validations_from(data, RealValidation)


def test_the_figure_frames_what_is_meant_and_stars_what_tells() -> None:
    found = a_validation(contrast=[2.0, 3.0, 0.0, 1.0], length=[1.0, 2.0, 1.0, 1.0])
    figure = real_judges_figure([found])
    assert list(figure.data[0].text[0]) == ["1.00*", "0.75"]
    assert len(figure.layout.shapes) == 1
    with pytest.raises(InvalidInputError, match="no validation"):
        real_judges_figure([])


def test_answers_are_asked_under_other_instructions_than_the_contrast_reads(tiny_model: Callable[[str], SteerableModel]) -> None:
    assert not set(ASKED_UNDER) & set(JUDGED_UNDER)
    model, trait = tiny_model("qwen2"), load_trait("formal")
    read = LikelihoodContrastJudge(model, pairs=JUDGED_UNDER).determinants(trait)["instructions"]
    assert read == [[trait.instructions[place].positive, trait.instructions[place].negative] for place in JUDGED_UNDER]
    with pytest.raises(InvalidInputError, match="give places from 0 to 4"):
        LikelihoodContrastJudge(model, pairs=[5])


@pytest.mark.slow
def test_a_run_cut_short_goes_on_and_the_command_writes_both_files(
    tiny_model_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_interp.studies.judges.real_answers.SAMPLING", Sampling(max_new_tokens=8))
    words = ["study", "judges", "--real", str(tiny_model_path("qwen2")), "--traits", "plain", "--num-prompts", "2"]
    assert main([*words, "--output", str(tmp_path / "real.json")]) == 0
    (found,) = validations_from(read_json(tmp_path / "real.json", "judge validations"), RealValidation)
    assert (tmp_path / "real.md").read_text(encoding="utf-8") == real_markdown([found])
    assert found.conditions == (FOR, FOR, AGAINST, AGAINST)
    assert [column.judge for column in found.columns if column.speaks] == ["contrast", "readability"]
    assert "local" in found.not_measured
    monkeypatch.setattr(SteerableModel, "generate", None)
    assert main([*words, "--output", str(tmp_path / "real.json")]) == 0


def test_more_questions_than_there_are_is_refused(tiny_model: Callable[[str], SteerableModel]) -> None:
    with pytest.raises(InvalidInputError, match="has 20 evaluation questions: 21 are to be asked"):
        validate_on_real(tiny_model("qwen2"), load_trait("plain"), num_prompts=21)


def test_the_shipped_head_is_what_its_texts_train_and_beats_length() -> None:
    head = train_silliness(labelled_texts(TEXTS))
    shipped = TextHead.from_json(read_json(HEAD, "text head"))
    assert head.weights == pytest.approx(shipped.weights, abs=2e-3)
    assert head.measured["auroc"] == pytest.approx(shipped.measured["auroc"], abs=0.01)
    assert shipped.measured["auroc"] > 0.8 > shipped.measured["auroc_length"]


def test_the_texts_are_all_different_and_of_both_kinds() -> None:
    texts = labelled_texts(TEXTS)
    assert len({each.text for each in texts}) == len(texts) > 200
    assert 0.4 < sum(each.silly for each in texts) / len(texts) < 0.6


def test_a_damaged_line_of_texts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"topic": 1, "text": "a", "silly": true}\n{"topic": 2}\n', encoding="utf-8")
    with pytest.raises(FileFormatError, match="line 2: KeyError"):
        labelled_texts(path)


def test_longer_texts_are_no_sillier_by_their_length() -> None:
    once: Any = text_features("a wobbly noodle sings")
    assert (text_features("a wobbly noodle sings " * 5) == once).all()
    assert float((once**2).sum()) == pytest.approx(1)
    assert not text_features("").any()
