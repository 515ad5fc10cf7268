"""What a visitor sends is checked whatever the page allows."""

from __future__ import annotations

import pytest

from persona_interp.demo.limits import (
    MAX_NEW_TOKENS,
    MAX_SESSIONS,
    MAX_VECTORS,
    checked_number,
    checked_sampling,
    checked_text,
    checked_whole,
)
from persona_interp.demo.sessions import Sessions
from persona_interp.demo.shelf import Shelf
from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.models.steerable import SteerableModel


@pytest.mark.parametrize("text", [None, 3, "", "  \n", "x" * 11, ["a"]])
def test_texts_that_are_none_empty_or_too_long_are_refused(text: object) -> None:
    with pytest.raises(InvalidInputError, match="the question"):
        checked_text(text, "question", 10)


@pytest.mark.parametrize("value", [None, "5", True, 1.5, float("nan"), float("inf"), -1, 11, 10**30])
def test_numbers_that_are_not_whole_or_out_of_range_are_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match="from 0 to 10"):
        checked_whole(value, "layer", 0, 10)


@pytest.mark.parametrize("value", [None, "5", float("nan"), float("inf"), -0.1, 10.1])
def test_numbers_out_of_range_are_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match="the dose"):
        checked_number(value, "dose", 0, 10)


def test_what_is_allowed_is_taken() -> None:
    assert checked_text(" why? ", "question", 10) == "why?"
    assert checked_text("", "system prompt", 10, empty=True) == checked_text(None, "system prompt", 10, empty=True) == ""
    assert checked_whole(3.0, "layer", 0, 10) == 3
    assert checked_sampling(MAX_NEW_TOKENS, 0).max_new_tokens == MAX_NEW_TOKENS
    with pytest.raises(InvalidInputError, match="answer length"):
        checked_sampling(MAX_NEW_TOKENS + 1, 0)


def test_sessions_and_their_vectors_are_bounded(random_vector, model) -> None:  # type: ignore[no-untyped-def]
    sessions = Sessions()
    first = sessions.of("0")
    vector = random_vector(model)
    labels = [first.keep("silly (uploaded)", vector, model.name) for _ in range(MAX_VECTORS + 2)]
    assert labels[:3] == ["silly (uploaded)", "silly (uploaded) (2)", "silly (uploaded) (3)"]
    assert first.labels(model.name) == labels[:1:-1]
    assert first.labels("organism-llama") == sessions.of("1").labels(model.name) == []
    for number in range(2, MAX_SESSIONS + 1):
        sessions.of(str(number))
    assert not first.folder.exists()
    assert sessions.of("1").folder.exists()
    sessions.close()


@pytest.mark.parametrize("name", [None, ""])
def test_requests_that_name_no_session_share_none(name: str | None) -> None:
    sessions = Sessions()
    with pytest.raises(InvalidInputError, match="of no session: open the page in a browser"):
        sessions.of(name)
    sessions.drop(name)
    sessions.close()


def test_only_the_models_of_the_page_are_loaded(shelf: Shelf) -> None:
    for name in ("organism-gpt2", "/etc/passwd", "../organism-qwen2", None, ["organism-qwen2"]):
        with pytest.raises(UnknownNameError, match="is not on this page. There are organism-qwen2, organism-llama"):
            shelf.model(name)


def test_models_are_loaded_once_when_first_used_and_closed_at_the_end() -> None:
    loaded: list[str] = []
    closed: list[str] = []

    class Model(SteerableModel):
        def __init__(self, name: str) -> None:
            self.name = name
            loaded.append(name)

        def close(self) -> None:
            closed.append(self.name)

    shelf = Shelf(["organism-gpt2", "organism-llama"], load=Model)
    assert loaded == []
    assert shelf.model("organism-gpt2") is shelf.model("organism-gpt2")
    assert loaded == ["organism-gpt2"]
    shelf.close()
    assert closed == loaded
    with pytest.raises(InvalidInputError, match="closing"):
        shelf.model("organism-llama")
    with pytest.raises(UnknownNameError, match="no-such-model"):
        Shelf(["no-such-model"])
    with pytest.raises(InvalidInputError, match="two models"):
        Shelf(["organism-gpt2", "organism-gpt2"])
    assert next(name for name in Shelf().names if name.startswith("organism")) == "organism-qwen2"
