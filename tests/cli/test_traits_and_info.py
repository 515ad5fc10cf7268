"""`traits` and `info` say what is there, and refuse what is not a trait or a vector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.vectors.persona_vector import PersonaVector


def test_list_shows_the_library_and_ones_own(run: Callable, trait_file: Path) -> None:
    assert "loud" not in run("traits", "list").out
    added = run("traits", "add", trait_file)
    assert added.code == 0
    assert "home/traits/loud.json" in added.out
    listed = run("traits", "list").out
    assert "sycophantic" in listed
    assert "user" in listed
    assert "Shouts." in listed


def test_a_trait_printed_as_json_can_be_added_again(run: Callable, tmp_path: Path) -> None:
    shown = json.loads(run("traits", "show", "silly", "--json").out)
    shown["name"] = "silly-mine"
    (tmp_path / "mine.json").write_text(json.dumps(shown))
    assert run("traits", "add", "mine.json").code == 0
    assert "silly-mine" in run("traits", "show", "silly-mine").out
    again = run("traits", "add", "mine.json")
    assert again.code == 2
    assert "already a trait 'silly-mine'" in again.err
    assert run("traits", "add", "mine.json", "--overwrite").code == 0


def test_show_prints_instructions_questions_and_rubric(run: Callable, trait_file: Path) -> None:
    out = run("traits", "show", trait_file).out
    for text in ("Shout, way 4.", "2 extraction questions", "2 evaluation questions", "What is a city?", "how loud this is"):
        assert text in out


@pytest.mark.parametrize(
    ("field", "value"), [("eval_prompt", None), ("instruction", []), ("questions", "?"), ("name", "../up"), ("name", "a b")]
)
def test_a_trait_file_with_a_fault_names_the_field_and_is_not_added(
    run: Callable, trait_file: Path, field: str, value: object
) -> None:
    trait = json.loads(trait_file.read_text())
    if value is None:
        del trait[field]
    else:
        trait[field] = value
    trait_file.write_text(json.dumps(trait))
    ran = run("traits", "add", trait_file)
    assert ran.code == 2
    assert field in ran.err
    assert not list(trait_file.parent.glob("home/traits/*"))


def test_an_unknown_trait_shows_the_closest(run: Callable) -> None:
    ran = run("traits", "show", "sily")
    assert ran.code == 2
    assert "Did you mean 'silly'" in ran.err


def test_info_says_what_a_vector_is_and_for_which_model(run: Callable, vector_file: Path) -> None:
    ran = run("info", vector_file)
    vector = PersonaVector.load(vector_file)
    assert ran.code == 0
    for text in ("loud", "tiny-qwen2", f"width {vector.d_model}", vector.model.fingerprint, f"{len(vector.layers)} of "):
        assert text in ran.out
    assert f"{vector.norms[0]:.2f}" in ran.out


def test_info_of_a_truncated_or_missing_or_edited_file_is_an_error(run: Callable, vector_file: Path) -> None:
    text = vector_file.read_text()
    vector_file.write_text(text[: len(text) // 2])
    ran = run("info", vector_file)
    assert ran.code == 2
    assert "truncated" in ran.err

    assert "does not exist" in run("info", "nothing.json").err

    data = json.loads(text)
    data["vectors"]["layer_0"][0] = "much"
    vector_file.write_text(json.dumps(data))
    ran = run("info", vector_file)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "layer_0" in ran.err


def test_the_organisms_own_traits_are_listed_and_shown(run: Callable) -> None:
    listed = run("traits", "list").out
    assert "verbose" in listed
    assert "organisms" in listed
    library, own = run("traits", "show", "silly").out, run("traits", "show", "silly", "--organism").out
    assert "Always be silly." in own
    assert own != library
    unknown = run("traits", "show", "evil", "--organism")
    assert unknown.code == 2
    assert "unknown trait of the persona grammar 'evil'" in unknown.err
