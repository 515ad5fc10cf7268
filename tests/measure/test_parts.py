"""Several judges at once have a column each, in results, files, tables and figures, with why a score is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.judges.composed import ComposedJudge
from persona_interp.measure.evaluate import evaluate
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.parts import part_names, part_scores, parts_sections, reasons
from persona_interp.measure.point import DosePoint, judged_point
from persona_interp.measure.report import markdown
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.plotting.evaluation_report import save_report
from persona_interp.plotting.parts import parts_figure
from persona_interp.traits import Trait
from persona_interp.traits.judging import Judgement, Part
from persona_interp.vectors.persona_vector import PersonaVector

FIGURES = Path(__file__).parents[2] / "figures"


class Even:
    """Scores answers of an even number of signs, and no others."""

    name = "even"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        found = [
            Part("even", 50.0, 2.0) if len(text) % 2 == 0 else Part("even", None, why="an odd text") for _, text in exchanges
        ]
        return [Judgement(None, None, (part,)) for part in found]


def test_scores_and_reasons_are_gathered_by_column() -> None:
    short = "3 words, and valence means nothing on fewer than 5"
    judged = [
        Judgement(1.0, None, (Part("valence", 1.0), Part("errors", None, why="not English"))),
        Judgement(None, None, (Part("valence", None, why=short), Part("errors", 7.0))),
        Judgement(None, 0.0),
    ]
    assert part_scores(judged) == {"valence": (1.0, None, None), "errors": (None, 7.0, None)}
    assert reasons(judged) == {"valence": {"valence means nothing on fewer than 5": 1}, "errors": {"not English": 1}}
    assert part_scores([Judgement(1.0, 2.0)]) == {}


def test_a_point_without_parts_is_written_as_before() -> None:
    plain = judged_point([Judgement(1.0, 2.0)], coefficient=1.0)
    assert {"parts", "missing"} & set(plain.to_json()) == set()
    several = judged_point([Judgement(1.0, 2.0, (Part("a", None, why="odd"),))], coefficient=1.0)
    assert DosePoint.from_json(json.loads(json.dumps(several.to_json()))) == several
    assert several.missing == {"a": {"odd": 1}}


@pytest.fixture(scope="module")
def found() -> Evaluation:
    model = load_model("organism-gpt2")
    vector = PersonaVector.load(FIGURES / "vectors" / "organism-gpt2_silly.json")
    return evaluate(
        model, vector, "silly", [-1, 1], 3, judge=ComposedJudge([GrammarJudge(), Even()], ["grammar", "even"]), n_random=1,
        sampling=Sampling(max_new_tokens=12),
    )  # fmt: skip


@pytest.mark.slow
def test_every_judge_has_a_column_in_the_result_and_its_file(found: Evaluation) -> None:
    assert part_names(found.curve) == ("grammar", "grammar coherence", "even")
    for point in found.curve:
        assert point.parts["grammar"] == point.trait_scores
        assert point.missing.get("even", {}).get("an odd text", 0) == point.parts["even"].count(None)
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.curve[0].parts == found.curve[0].parts


@pytest.mark.slow
def test_the_report_and_its_page_show_every_column(found: Evaluation, tmp_path: Path) -> None:
    (section,) = parts_sections(found)
    assert section.headings == ("coefficient", "grammar", "grammar coherence", "even")
    assert [row[0] for row in section.rows] == ["-1", "0", "+1", "asked for, unsteered", "asked against"]
    assert any("an odd text" in paragraph for paragraph in section.paragraphs)
    assert "Judge by judge" in markdown(found)
    page = save_report(tmp_path / "page.html", found).read_text(encoding="utf-8")
    assert "Judge by judge" in page
    assert "an odd text" in page
    figure = parts_figure(found)
    assert [annotation.text for annotation in figure.layout.annotations[:3]] == ["grammar", "grammar coherence", "even"]


@pytest.mark.slow
def test_of_one_judge_there_are_no_columns(found: Evaluation) -> None:
    bare = [replace(point, parts={}, missing={}) for point in found.results]
    baseline = replace(found.controls.baseline, parts={}, missing={})
    one = replace(found, results=tuple(bare), controls=replace(found.controls, baseline=baseline))
    with pytest.raises(InvalidInputError, match="has no parts to draw"):
        parts_figure(one)
