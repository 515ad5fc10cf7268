"""Reading, checking and writing traits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.traits import InstructionPair, Trait, load_trait


def make_trait(**changes: Any) -> Trait:
    trait = Trait(
        name="terse",
        description="Says little.",
        instructions=tuple(InstructionPair(f"Be terse, way {i}.", f"Be wordy, way {i}.") for i in range(5)),
        extraction_questions=tuple(f"Extraction question {i}?" for i in range(20)),
        evaluation_questions=tuple(f"Evaluation question {i}?" for i in range(20)),
        rubric="Rate terseness. Q: {question} A: {answer}",
    )
    return dataclasses.replace(trait, **changes)


def foreign(n_questions: int = 40) -> dict[str, Any]:
    """A trait file as other people's code writes it."""
    return {
        "instruction": [{"pos": f"Do so {i}.", "neg": f"Do not {i}."} for i in range(5)],
        "questions": [f"Question {i}?" for i in range(n_questions)],
        "eval_prompt": "Question: {question}\nAnswer: {answer}\nScore 0-100 or REFUSAL.",
    }


def test_saved_and_loaded_is_the_same_trait(tmp_path: Path) -> None:
    trait = make_trait(evaluation_questions=("Only one, with ünïcode?",))
    path = trait.save(tmp_path / "deep" / "terse.json")
    assert Trait.load(path) == trait
    assert [file.name for file in path.parent.iterdir()] == ["terse.json"]


def test_a_saved_file_speaks_the_shared_schema(tmp_path: Path) -> None:
    value = json.loads(make_trait().save(tmp_path / "t.json").read_text(encoding="utf-8"))
    assert value["instruction"][0] == {"pos": "Be terse, way 0.", "neg": "Be wordy, way 0."}
    assert value["questions"][20] == "Evaluation question 0?"
    assert value["eval_prompt"] == "Rate terseness. Q: {question} A: {answer}"
    assert (value["format_version"], value["n_extraction"]) == (1, 20)


@pytest.mark.parametrize(("n_questions", "n_extraction"), [(40, 20), (20, 20), (7, 7), (41, 41)])
def test_other_peoples_questions_are_split_only_when_there_are_forty(tmp_path: Path, n_questions: int, n_extraction: int) -> None:
    path = tmp_path / "brave.json"
    path.write_text(json.dumps(foreign(n_questions)), encoding="utf-8")
    trait = Trait.load(path)
    assert trait.name == "brave"
    assert "brave" in trait.description
    assert len(trait.extraction_questions) == n_extraction
    assert len(trait.evaluation_questions) == n_questions - n_extraction
    assert Trait.from_json(trait.to_json()) == trait


def test_n_extraction_moves_the_split() -> None:
    trait = Trait.from_json(foreign() | {"n_extraction": 39, "name": "brave"})
    assert trait.evaluation_questions == ("Question 39?",)


def test_a_rubric_of_others_without_the_question_gets_it_in_front() -> None:
    trait = Trait.from_json(foreign() | {"eval_prompt": "Answer: {answer}"}, name="brave")
    filled = trait.rubric_for("How far?", "Not far.")
    assert filled.index("How far?") < filled.index("Answer: Not far.")


def test_unknown_fields_of_others_are_passed_over() -> None:
    assert Trait.from_json(foreign() | {"author": "somebody"}, name="brave").name == "brave"


def test_the_rubric_is_filled_in_one_pass_and_keeps_other_braces() -> None:
    trait = make_trait(rubric='{"q": "{question}", "a": "{answer}", "n": {}}')
    assert trait.rubric_for("{answer}", "{question} \\1") == '{"q": "{answer}", "a": "{question} \\1", "n": {}}'


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 2}, r"'format_version' is 2; this version of the package reads 1"),
    ({"format_version": "1"}, r"'format_version' is '1'"),
    ({"format_version": True}, r"'format_version' is True"),
    ({"n_extracton": 20}, r"unknown field 'n_extracton'; format version 1 has .*n_extraction"),
    ({"name": 3}, r"'name' is a int \(3\); expected text"),
    ({"name": None}, r"missing 'name'"),
    ({"name": ""}, r"'name' is empty"),
    ({"name": "../evil"}, r"'name': '../evil' cannot be a file name"),
    ({"name": "a.json"}, r"'name' is 'a.json', which reads like a file"),
    ({"description": "  "}, r"'description' is empty"),
    ({"description": ["x"]}, r"'description' is a list"),
    ({"instruction": "be terse"}, r"'instruction' is a str; expected a list"),
    ({"instruction": [{"pos": "a", "neg": "b"}] * 4}, r"'instruction' has 4 pairs; expected exactly 5"),
    ({"instruction": []}, r"'instruction' has 0 pairs"),
    ({"questions": {"0": "q"}}, r"'questions' is a dict; expected a list"),
    ({"questions": []}, r"'questions' is empty"),
    ({"questions": ["One?", 2]}, r"'questions\[1\]' is a int \(2\); expected text"),
    ({"questions": ["One?", "\n"]}, r"'questions\[1\]' is empty"),
    ({"questions": ["One thing?", "Two?", "one  THING? "]}, r"'questions\[2\]' repeats 'questions\[0\]'"),
    ({"n_extraction": 0}, r"'n_extraction' is 0; expected 1 to 40"),
    ({"n_extraction": 41}, r"'n_extraction' is 41; expected 1 to 40"),
    ({"n_extraction": 20.0}, r"'n_extraction' is 20.0"),
    ({"n_extraction": True}, r"'n_extraction' is True"),
    ({"eval_prompt": None}, r"'eval_prompt' is a NoneType"),
    ({"eval_prompt": ""}, r"'eval_prompt' is empty"),
    ({"eval_prompt": "Rate {question}"}, r"'eval_prompt' does not contain \{answer\}"),
    ({"eval_prompt": "Rate {answer}"}, r"'eval_prompt' does not contain \{question\}"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_a_broken_file_says_which_file_and_which_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "broken.json"
    value = make_trait().to_json() | change
    if len(value["questions"]) < 20 and "n_extraction" not in change:
        value["n_extraction"] = 1
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(FileFormatError, match=rf"^trait file .*broken\.json: .*{message}"):
        Trait.load(path)


@pytest.mark.parametrize("field", ["instruction", "questions", "eval_prompt", "name", "description"])
def test_a_missing_field_is_named(field: str) -> None:
    value = make_trait().to_json()
    del value[field]
    with pytest.raises(FileFormatError, match=rf"^mine: missing '{field}'; a trait file needs 'instruction'"):
        Trait.from_json(value, source="mine")


def test_a_foreign_object_needs_a_name_from_somewhere() -> None:
    with pytest.raises(FileFormatError, match="missing 'name'"):
        Trait.from_json(foreign())


def test_a_foreign_file_whose_name_is_no_trait_name_asks_for_one(tmp_path: Path) -> None:
    path = tmp_path / "my trait (2).json"
    path.write_text(json.dumps(foreign()), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"field 'name': 'my trait \(2\)' cannot be a file name"):
        Trait.load(path)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("be terse", r"'instruction\[2\]' is a str"),
        ({"pos": "x"}, r"'instruction\[2\]' has no 'neg'"),
        ({"positive": "x", "negative": "y"}, r"'instruction\[2\]' has no 'pos'"),
        ({"pos": "x", "neg": 1}, r"'instruction\[2\].neg' is a int"),
        ({"pos": "", "neg": "y"}, r"'instruction\[2\].pos' is empty"),
        ({"pos": "same", "neg": "Same"}, r"'instruction\[2\].neg' repeats 'instruction\[2\].pos'"),
        ({"pos": "Be terse, way 0.", "neg": "y"}, r"'instruction\[2\].pos' repeats 'instruction\[0\].pos'"),
    ],
)
def test_a_broken_pair_is_named(pair: object, message: str) -> None:
    value = make_trait().to_json()
    value["instruction"][2] = pair
    with pytest.raises(FileFormatError, match=message):
        Trait.from_json(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "expected a JSON object"), ('{"name": ', "not valid JSON"), ("", "not valid JSON")],
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FileFormatError, match=message):
        Trait.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"nowhere\.json does not exist"):
        Trait.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "field 'name'"),
        ({"description": ""}, "'description' is empty"),
        ({"instructions": ()}, "'instructions' has 0 pairs"),
        (
            {"instructions": (InstructionPair("a", "a"),) * 5},
            r"'instructions\[0\].negative' repeats 'instructions\[0\].positive'",
        ),
        ({"extraction_questions": ()}, "'extraction_questions' is empty"),
        (
            {"evaluation_questions": ("Extraction question 3?",)},
            r"'evaluation_questions\[0\]' repeats 'extraction_questions\[3\]'",
        ),
        ({"rubric": "Rate {answer}"}, r"'rubric' does not contain \{question\}"),
    ],
)
def test_a_trait_built_in_python_is_checked_too(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_trait(**changes)


def test_evaluation_questions_may_be_absent() -> None:
    assert make_trait(evaluation_questions=()).evaluation_questions == ()


def test_measures_are_optional_and_read_back() -> None:
    plain = load_trait("plain")
    assert plain.measures == ("-readability",)
    assert plain.measure_signs == {"readability": -1}
    assert plain.to_json()["measures"] == ["-readability"]
    without = dataclasses.replace(plain, measures=())
    assert "measures" not in without.to_json()
    assert Trait.from_json(without.to_json()) == without
    theirs = {name: plain.to_json()[name] for name in ("instruction", "questions", "eval_prompt")}
    assert Trait.from_json({**theirs, "measures": "whatever they mean by it"}, name="theirs").measures == ()


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        (["valence", "-valence"], r"'measures\[1\]' names 'valence' a second time"),
        (["Valence"], r"'measures\[0\]' is 'Valence'; expected the name of a measure"),
        ([3], r"'measures\[0\]' is a int"),
        ("valence", "'measures' is a str"),
    ],
)
def test_measures_that_are_no_names_are_refused(measures: object, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        Trait.from_json({**load_trait("plain").to_json(), "measures": measures})
