"""Finding traits by name, and keeping one's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.traits import Trait, add_trait, load_trait, trait_names


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(folder))
    return folder


def terse(name: str = "terse", description: str = "Says little.") -> Trait:
    return dataclasses.replace(load_trait("silly"), name=name, description=description)


def test_looking_creates_no_folder(user_home: Path) -> None:
    assert set(trait_names().values()) == {"library"}
    assert not user_home.exists()


def test_an_added_trait_is_found_by_name(user_home: Path) -> None:
    assert add_trait(terse()) == user_home / "traits" / "terse.json"
    assert trait_names()["terse"] == "user"
    assert load_trait("terse") == terse()
    assert list(trait_names()) == sorted(trait_names())


def test_a_user_trait_is_replaced_only_on_request() -> None:
    add_trait(terse())
    with pytest.raises(InvalidInputError, match="already a trait 'terse'"):
        add_trait(terse(description="Other."))
    assert load_trait("terse").description == "Says little."
    add_trait(terse(description="Other."), overwrite=True)
    assert load_trait("terse").description == "Other."


@pytest.mark.parametrize("name", ["silly", "Silly", "EVIL"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_library_trait_is_never_replaced(name: str, overwrite: bool) -> None:
    with pytest.raises(InvalidInputError, match="is a trait of the library"):
        add_trait(terse(name), overwrite=overwrite)


def test_a_file_put_beside_the_library_under_its_name_does_not_hide_it(user_home: Path) -> None:
    (user_home / "traits").mkdir(parents=True)
    terse("evil").save(user_home / "traits" / "evil.json")
    assert trait_names()["evil"] == "library"
    assert load_trait("evil").description != "Says little."


@pytest.mark.parametrize(
    "name", ["../terse", "a/b", "a\\b", "/etc/passwd", "..", ".hidden", "", "a b", "x\n", "a\0b", "terse.json"]
)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(InvalidInputError, match="'name'"):
        terse(name)


@pytest.mark.parametrize("name", ["..", ".hidden", "", "*", "a b", "ter\0se"])
def test_a_strange_name_is_merely_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown trait"):
        load_trait(name)


@pytest.mark.parametrize("path", ["../../nowhere/evil", "a/b", "a\\b", "no.json"])
def test_what_looks_like_a_path_is_read_as_one(path: str) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        load_trait(path)


def test_an_unknown_name_lists_the_known_and_the_closest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown trait 'sily'\. Did you mean 'silly'.*\?.*Known: apathetic, .*traits add FILE"
    ):
        load_trait("sily")


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = terse().save(tmp_path / "elsewhere.json")
    assert load_trait(path) == load_trait(str(path)) == terse()
    assert "terse" not in trait_names()


def test_a_path_needs_no_suffix(tmp_path: Path) -> None:
    assert load_trait(terse().save(tmp_path / "terse")) == terse()


def test_a_shared_file_dropped_into_the_folder_is_called_after_itself(user_home: Path) -> None:
    value = terse().to_json()
    for ours in ("format_version", "name", "description", "n_extraction"):
        del value[ours]
    (user_home / "traits").mkdir(parents=True)
    (user_home / "traits" / "brave.json").write_text(json.dumps(value), encoding="utf-8")
    assert load_trait("brave").name == "brave"


def test_a_file_that_gives_another_name_than_its_own_is_refused(user_home: Path) -> None:
    (user_home / "traits").mkdir(parents=True)
    terse().save(user_home / "traits" / "brave.json")
    with pytest.raises(FileFormatError, match="field 'name' is 'terse'; the file's own name says 'brave'"):
        load_trait("brave")


def test_a_folder_that_cannot_be_written_is_a_plain_error(user_home: Path) -> None:
    user_home.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(PersonaInterpError, match=r"cannot write .*terse\.json"):
        add_trait(terse())
