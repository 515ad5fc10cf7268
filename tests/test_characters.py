"""Halves of characters: every reader of texts refuses them by line or field, none dies of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persona_interp.characters import check_characters, mended
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat, read_chats
from persona_interp.monitoring.rows import turn_rows
from persona_interp.storage import read_jsonl, write_json
from persona_interp.traits import Conversation, Message
from persona_interp.traits.trait import Trait
from persona_interp.transfers.anchors import read_anchors
from persona_interp.vectors.rollouts.rollout import read_rollouts
from persona_interp.vectors.rollouts.rollout_log import RolloutLog

HALF = "\ud83d"
WHOLE = "\U0001f967"


@pytest.mark.parametrize("code", [0xD83D, 0xDC00, 0xDCFF])
def test_half_of_a_character_is_refused_with_its_place(code: int) -> None:
    half = chr(code)
    with pytest.raises(InvalidInputError, match="the text holds half of a character, .* at place 7, "):
        check_characters(f"Wobbly {half} pie", "the text")
    assert check_characters(f"Wobbly {WHOLE} pie \ufffd", "the text") == f"Wobbly {WHOLE} pie \ufffd"
    assert mended(f"a{half}b{WHOLE}") == f"a\ufffdb{WHOLE}"


@pytest.mark.parametrize(("role", "what"), [("system", "system prompt"), ("user", "prompt"), ("assistant", "answer")])
def test_messages_refuse_it(role: str, what: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the {what} holds half of a character"):
        Message(role, f"Wobbly {HALF}")


GOOD = {
    "prompt": f"How big {WHOLE}?",
    "response": "It is big.",
    "text": "It is.",
    "label": "positive",
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
}
BAD: dict[str, Any] = {
    "prompt": {**GOOD, "prompt": f"How {HALF}?"},
    "response": {**GOOD, "response": f"It {HALF}."},
    "messages": {**GOOD, "messages": [{"role": "user", "content": f"a{HALF}"}]},
}
READERS: dict[str, Callable[[Path], object]] = {
    "chats": read_chats,
    "anchors": read_anchors,
    "rollouts": lambda path: list(read_rollouts(path)),
    "any": lambda path: list(read_jsonl(path)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("field", BAD)
def test_every_reader_of_lines_names_the_line(reader: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in (GOOD, GOOD, BAD[field])))
    with pytest.raises(FileFormatError, match=r"lines\.jsonl, line 3, holds half of a character, '.ud83d' at place \d"):
        READERS[reader](path)
    path.write_text("\n".join(json.dumps(line) for line in (GOOD, GOOD)))
    READERS[reader](path)


def test_the_log_of_an_extraction_names_the_line(tmp_path: Path) -> None:
    RolloutLog(tmp_path, {})
    (tmp_path / "rollouts.jsonl").write_text(json.dumps({"answer": f"It {HALF}"}) + "\n")
    with pytest.raises(FileFormatError, match=r"rollouts\.jsonl, line 1, is damaged \(it holds half of a character"):
        RolloutLog(tmp_path, {})


def test_a_trait_names_the_field(trait_json: dict[str, Any]) -> None:
    trait_json["questions"][1] = f"How {HALF}?"
    with pytest.raises(FileFormatError, match=r"'questions\[1\]' holds half of a character"):
        Trait.from_json(trait_json)


@pytest.fixture
def trait_json() -> dict[str, Any]:
    from persona_interp.traits.catalogue import load_trait

    return load_trait("silly").to_json()


def test_given_answers_and_texts_are_refused_before_the_tokenizer_sees_them(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    with pytest.raises(InvalidInputError, match="the answer holds half"):
        model.chat.tokenise(Conversation.ask("How?"), f"It {HALF}")
    with pytest.raises(InvalidInputError, match="the text holds half"):
        turn_rows(model, [f"It {HALF}"])
    with pytest.raises(InvalidInputError, match="the answer holds half"):
        Chat.of("How?", f"It {HALF}")


def test_names_of_files_that_are_no_text_do_not_stop_a_result_from_being_written(tmp_path: Path) -> None:
    path = write_json(tmp_path / "out.json", {"vectors": ["v\udcff.json"], "said": WHOLE})
    assert json.loads(path.read_text(encoding="utf-8")) == {"vectors": ["v\udcff.json"], "said": WHOLE}
