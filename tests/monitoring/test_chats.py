"""Conversations are read in both usual shapes, and whatever is none is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.monitoring.chats import Chat, read_chats
from persona_interp.traits.conversation import Conversation, Message


def test_every_answer_is_a_turn_with_all_that_was_said_before() -> None:
    chat = Chat(
        (
            Message("system", "Be brief."),
            Message("user", "Hi?"),
            Message("assistant", "Hello."),
            Message("user", "And?"),
            Message("assistant", ""),
            Message("user", "Well?"),
        )
    )
    assert [turn.answer for turn in chat.turns] == ["Hello.", "", None]
    assert [len(turn.conversation.messages) for turn in chat.turns] == [2, 4, 6]
    assert chat.turns[0].conversation == Conversation.ask("Hi?", system="Be brief.")


def test_both_shapes_give_the_same_conversation(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]
    lines = [
        {"prompt": "Hi?", "response": "Hello.", "system": "Be brief.", "id": "first"},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": parts, "extra": 1},
            ],
            "planted": True,
        },
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n" + "\n\n".join(map(json.dumps, lines)) + "\n")
    one, other = read_chats(path)
    assert one.messages == other.messages == Chat.of("Hi?", "Hello.", system="Be brief.").messages
    assert (one.name, other.name) == ("first", "line 4")
    assert (one.planted, other.planted) == (None, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [', "line 2, is not valid JSON"),
        ("[]", "line 2, holds a list"),
        ('{"question": "Hi?"}', r"line 2: neither 'messages' nor 'prompt' among its fields \(question\)"),
        ('{"messages": []}', "line 2: field 'messages' is empty"),
        ('{"messages": "Hi?"}', "line 2: field 'messages' is a str"),
        ('{"messages": ["Hi?"]}', "line 2: message 0 is a str"),
        ('{"messages": [{"role": "user"}]}', "line 2: message 0 needs 'role' and 'content' as text"),
        ('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "line 2: message 0 needs 'role' and 'content'"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "line 2: message 0: message role 'tool' is not known"),
        ('{"messages": [{"role": "assistant", "content": "Hi"}]}', "line 2: a conversation needs at least one user message"),
        (
            '{"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hi?"}]}',
            "line 2: message 0 is an answer, but no user message stands before it",
        ),
        ('{"prompt": "  "}', "line 2: the prompt is empty"),
        ('{"prompt": 3}', "line 2: field 'prompt' is 3, expected text"),
        ('{"prompt": "Hi?", "response": 4}', "line 2: field 'response' is 4, expected text"),
        ('{"prompt": "Hi?", "planted": 1}', "line 2: field 'planted' is 1: use true or false"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"prompt": "Hi?"}\n' + line + "\n")
    with pytest.raises(FileFormatError, match=message):
        read_chats(path)


def test_a_missing_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        read_chats(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(FileFormatError, match="is empty: give one object a line"):
        read_chats(tmp_path / "empty.jsonl")


def test_a_system_message_in_the_middle_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="only the first of a conversation may be one"):
        Chat((Message("user", "Hi?"), Message("system", "Be brief."), Message("user", "Hi?")))
