"""Conversations: what they accept and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.traits import Conversation, Message


def test_ask_puts_the_system_prompt_first() -> None:
    conversation = Conversation.ask("Why?", system="Be brief.")
    assert conversation.messages == (Message("system", "Be brief."), Message("user", "Why?"))
    assert (conversation.system, conversation.question) == ("Be brief.", "Why?")


def test_without_a_system_prompt_there_is_none() -> None:
    assert Conversation.ask("Why?").system is None
    assert len(Conversation.ask("Why?").messages) == 1


def test_the_question_is_the_last_thing_the_user_said() -> None:
    turns = (Message("user", "Hi."), Message("assistant", ""), Message("user", "Why?"))
    assert Conversation(turns).question == "Why?"


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
def test_blank_prompts_are_refused(blank: str) -> None:
    with pytest.raises(InvalidInputError, match="the prompt is empty"):
        Conversation.ask(blank)
    with pytest.raises(InvalidInputError, match="the system prompt is empty"):
        Conversation.ask("Why?", system=blank)


USER, ASSISTANT, SYSTEM = Message("user", "Hi."), Message("assistant", "Hello."), Message("system", "Be kind.")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ((), "at least one user message"),
        ((USER, ASSISTANT), "the last message of a conversation is the user's, got role 'assistant'"),
        ((SYSTEM,), "the last message of a conversation is the user's, got role 'system'"),
        ((USER, SYSTEM, USER), "message 1 is a system message"),
    ],
)
def test_an_order_nobody_could_answer_is_refused(messages: tuple[Message, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Conversation(messages)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="role 'tool' is not known; use one of system, user, assistant"):
        Message("tool", "x")


def test_json_round_trip() -> None:
    conversation = Conversation((SYSTEM, USER, ASSISTANT, USER))
    assert conversation.to_json()[0] == {"role": "system", "content": "Be kind."}
    assert Conversation.from_json(conversation.to_json()) == conversation


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "line 3: expected a list of messages, got str"),
        (["hello"], "line 3: message 0 is a str"),
        ([{"role": "user"}], "line 3: message 0 needs 'role' and 'content' as text"),
        ([{"role": "user", "content": 1}], "line 3: message 0 needs"),
        ([{"role": "bot", "content": "x"}], "line 3: message 0: message role 'bot'"),
        ([], "line 3: a conversation needs"),
    ],
)
def test_broken_json_says_where(value: Any, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        Conversation.from_json(value, source="line 3")
