"""A conversation up to the point where the assistant is to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from persona_interp.characters import check_characters
from persona_interp.errors import FileFormatError, InvalidInputError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn: who speaks (`system`, `user` or `assistant`) and what is said.

    Raises:
        InvalidInputError: the role is none of the three, a system or user turn is blank, or a turn holds half of a character.
    """

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInputError(f"message role {self.role!r} is not known; use one of {', '.join(ROLES)}")
        what = {"system": "system prompt", "user": "prompt", "assistant": "answer"}[self.role]
        check_characters(self.content, f"the {what}")
        # A model may really have answered with nothing, but nobody asks nothing.
        if self.role != "assistant" and not self.content.strip():
            remedy = "leave it out to have none" if self.role == "system" else "write a question or instruction"
            raise InvalidInputError(f"the {what} is empty ({self.content!r}); {remedy}")


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the last one the user's: what a model is asked to answer.

    Example:
        >>> conversation = Conversation.ask("Why is the sky blue?", system="Answer in one sentence.")
        >>> conversation.question
        'Why is the sky blue?'

    Raises:
        InvalidInputError: there is no message, a system message stands anywhere but first, or the last message is not the user's.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidInputError("a conversation needs at least one user message, got none")
        for index, message in enumerate(self.messages):
            if message.role == "system" and index > 0:
                raise InvalidInputError(f"message {index} is a system message; only the first of a conversation may be one")
        if self.messages[-1].role != "user":
            raise InvalidInputError(
                f"the last message of a conversation is the user's, got role {self.messages[-1].role!r}; "
                "leave the assistant's last answer out and pass it separately"
            )

    @classmethod
    def ask(cls, question: str, system: str | None = None) -> Conversation:
        """One question, with a system prompt before it or none.

        Raises:
            InvalidInputError: the question, or a system prompt that was given, is blank.
        """
        prefix = () if system is None else (Message("system", system),)
        return cls((*prefix, Message("user", question)))

    @property
    def question(self) -> str:
        """What the user said last."""
        return self.messages[-1].content

    @property
    def system(self) -> str | None:
        """The system prompt, or None where there is none."""
        first = self.messages[0]
        return first.content if first.role == "system" else None

    def to_json(self) -> list[dict[str, str]]:
        """The usual list of ``{"role": ..., "content": ...}`` objects."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    @classmethod
    def from_json(cls, value: object, *, source: str = "conversation") -> Conversation:
        """Read what `to_json` writes; other keys of a message are ignored.

        Args:
            value: a list of objects with `role` and `content`.
            source: where the list came from, for the error message.

        Raises:
            FileFormatError: not such a list, or a list that is no conversation; names the message.
        """
        if not isinstance(value, list):
            raise FileFormatError(f"{source}: expected a list of messages, got {type(value).__name__}")
        messages: list[Message] = []
        for index, item in enumerate(cast(list[Any], value)):
            if not isinstance(item, Mapping):
                raise FileFormatError(f"{source}: message {index} is a {type(item).__name__}, expected an object")
            fields = cast(Mapping[str, Any], item)
            role, content = fields.get("role"), fields.get("content")
            if not isinstance(role, str) or not isinstance(content, str):
                raise FileFormatError(f"{source}: message {index} needs 'role' and 'content' as text, has {sorted(fields)}")
            try:
                messages.append(Message(role, content))
            except InvalidInputError as error:
                raise FileFormatError(f"{source}: message {index}: {error}") from error
        try:
            return cls(tuple(messages))
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {error}") from error
