"""Conversations that have happened: messages with the assistant's answers among them, and files of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.storage import read_jsonl
from persona_interp.traits.conversation import Conversation, Message

_SHAPES = "{'messages': [{'role': ..., 'content': ...}, ...]} or {'prompt': ..., 'response': ..., 'system': optional}"


@dataclass(frozen=True)
class Turn:
    """What the assistant was asked, with all that was said before, and what it answered; None where it has not answered yet."""

    conversation: Conversation
    answer: str | None


@dataclass(frozen=True)
class Chat:
    """A conversation with its answers, of one or several turns.

    Attributes:
        messages: in order; a system message may stand first, and the last may be the user's or the assistant's.
        name: how results call it.
        planted: in a data set made to test screening: whether this sample was planted; None where nothing is said.

    Example:
        >>> chat = Chat.of("How are you?", "Splendid, dear turnip!", system="Be silly.")
        >>> chat.turns[0].answer
        'Splendid, dear turnip!'

    Raises:
        InvalidInputError: there is no user message, or an answer to nothing.
    """

    messages: tuple[Message, ...]
    name: str = ""
    planted: bool | None = None

    def __post_init__(self) -> None:
        if not any(message.role == "user" for message in self.messages):
            raise InvalidInputError("a conversation needs at least one user message, got none")
        for place, message in enumerate(self.messages):
            if message.role == "assistant" and (place == 0 or self.messages[place - 1].role != "user"):
                raise InvalidInputError(
                    f"message {place} is an answer, but no user message stands before it: put the question there, or leave the "
                    "answer out"
                )
        if not self.turns:
            raise InvalidInputError("the last message is neither the user's nor the assistant's: nothing was asked")

    @classmethod
    def of(cls, prompt: str, response: str | None = None, *, system: str | None = None, name: str = "") -> Chat:
        """One question and, if there is one, its answer."""
        answer = () if response is None else (Message("assistant", response),)
        return cls((*Conversation.ask(prompt, system).messages, *answer), name)

    @classmethod
    def from_conversation(cls, conversation: Conversation, answer: str | None = None, *, name: str = "") -> Chat:
        """A conversation, and the answer to it if there is one."""
        return cls((*conversation.messages, *(() if answer is None else (Message("assistant", answer),))), name)

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """Every answer with what came before it; a question at the end that nobody answered is a turn without an answer."""
        found = [
            Turn(Conversation(self.messages[:place]), message.content)
            for place, message in enumerate(self.messages)
            if message.role == "assistant"
        ]
        if self.messages[-1].role == "user":
            found.append(Turn(Conversation(self.messages), None))
        return tuple(found)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, name: str = "", source: str = "conversation") -> Chat:
        """Read ``{"messages": [...]}`` in the usual shape, or ``{"prompt": ..., "response": ..., "system": optional}``.

        ``id`` (a name) and ``planted`` (true or false) are read where they are given; other fields are ignored. A content given
        as a list of text parts is joined.

        Raises:
            FileFormatError: neither shape, or no conversation; says what is missing.
        """
        try:
            messages = _messages(value)
            planted = value.get("planted")
            if planted is not None and not isinstance(planted, bool):
                raise InvalidInputError(f"field 'planted' is {planted!r}: use true or false, or leave it out")
            return cls(messages, str(value.get("id", name)), planted)
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {error}") from error


def read_chats(path: str | Path) -> list[Chat]:
    """The conversations of a JSON-lines file, named after their ``id`` or else their line.

    Raises:
        FileFormatError: the file is missing, has no conversation in it, or a line is not one; names the line.
    """
    path = Path(path)
    values = list(read_jsonl(path, "conversation file"))
    chats = [
        Chat.from_json(value, name=f"line {number}", source=f"conversation file {path}, line {number}")
        for number, value in zip(_filled_lines(path), values, strict=True)
    ]
    if not chats:
        raise FileFormatError(f"conversation file {path} is empty: give one object a line, {_SHAPES}")
    return chats


def _filled_lines(path: Path) -> Iterator[int]:
    """Numbers of the lines that are not blank, as `read_jsonl` counts them."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            yield number


def _messages(value: Mapping[str, Any]) -> tuple[Message, ...]:
    if "messages" in value:
        listed = value["messages"]
        if not isinstance(listed, list):
            raise InvalidInputError(f"field 'messages' is a {type(listed).__name__}, expected a list")
        if not listed:
            raise InvalidInputError("field 'messages' is empty: a conversation needs at least one user message")
        return tuple(_message(item, place) for place, item in enumerate(cast(list[Any], listed)))
    if "prompt" not in value:
        raise InvalidInputError(f"neither 'messages' nor 'prompt' among its fields ({', '.join(sorted(value))}): give {_SHAPES}")
    found: list[Message] = []
    for role, field in (("system", "system"), ("user", "prompt"), ("assistant", "response")):
        text = value.get(field)
        if text is not None or field == "prompt":
            if not isinstance(text, str):
                raise InvalidInputError(f"field {field!r} is {text!r}, expected text")
            found.append(Message(role, text))
    return tuple(found)


def _message(item: Any, place: int) -> Message:
    if not isinstance(item, Mapping):
        raise InvalidInputError(f"message {place} is a {type(item).__name__}, expected an object with 'role' and 'content'")
    fields = cast(Mapping[str, Any], item)
    role, content = fields.get("role"), fields.get("content")
    if isinstance(content, list):
        content = _joined(cast(list[Any], content))
    if not isinstance(role, str) or not isinstance(content, str):
        raise InvalidInputError(f"message {place} needs 'role' and 'content' as text, has {dict(fields)!r:.200}")
    try:
        return Message(role, content)
    except InvalidInputError as error:
        raise InvalidInputError(f"message {place}: {error}") from error


def _joined(parts: Sequence[Any]) -> str | None:
    """The text of a content given in parts; None where a part is not text."""
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    return "".join(cast(list[str], texts)) if texts and all(isinstance(text, str) for text in texts) else None
