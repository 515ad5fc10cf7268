"""The texts people have at hand, as the verbs of a model take them.

==========================================  ====================================================================================
a string                                    to `generate`: the user's message; to verbs that read (`read`, `capture`,
                                            `log_likelihood`, `project`): text as it is, without roles
``[{"role": ..., "content": ...}, ...]``    a chat, as Hugging Face's `apply_chat_template` takes it
a `Conversation`                            a chat that waits for an answer
``(prompt, answer)``                        a string or a chat, and the answer to it, for verbs that read
a `TokenisedAnswer`                         token ids, for verbs that read
==========================================  ====================================================================================

Where a list is given each of its items is one of these; a single one need not be put into a list.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from persona_interp.characters import check_characters
from persona_interp.errors import InvalidInputError
from persona_interp.models.chat import ChatFormat, TokenisedAnswer
from persona_interp.traits.conversation import Conversation, Message

Messages: TypeAlias = Sequence[Mapping[str, Any]]
Asked: TypeAlias = str | Conversation | Messages | Mapping[str, Any]
"""What can be answered."""
Read: TypeAlias = Any
"""What can be read: `Asked`, ``(prompt, answer)``, a `TokenisedAnswer`, or an object with ``messages``, such as a `Chat`."""

_FORMS = "a string, a list of {'role': ..., 'content': ...} messages, or a Conversation"


def conversations(texts: Asked | Sequence[Asked]) -> list[Conversation]:
    """What `generate` is given, each text as a conversation that ends with the user's message.

    Raises:
        InvalidInputError: none of the forms it takes, or a chat that ends with an answer.
    """
    return [_conversation(text) for text in listed_texts(texts)]


def rows(chat: ChatFormat, texts: Read | Sequence[Read]) -> list[TokenisedAnswer]:
    """What verbs that read are given, each text as token ids: those of a prompt, and those of the answer behind it.

    Of text without roles all but the first token is answer: with nothing before it, that one is where attention goes that has no
    other use, and it is a hundred times longer than others. A chat that ends with the user's message is all prompt.

    Raises:
        InvalidInputError: none of the forms they take.
    """
    return [_row(chat, text) for text in _read_texts(texts)]


def scored_rows(chat: ChatFormat, texts: Read | Sequence[Read]) -> list[TokenisedAnswer]:
    """`rows` for likelihoods, without what `plain_row` puts behind texts: there is no such token to score."""
    return [
        TokenisedAnswer(row.ids[:-1], min(row.n_prompt, len(row.ids) - 1)) if isinstance(text, str) else row
        for text, row in zip(_read_texts(texts), rows(chat, texts), strict=True)
    ]


def listed_texts(texts: Any) -> list[Any]:
    """The texts of a list, or the single one that was given without one."""
    if isinstance(texts, str | Conversation | TokenisedAnswer | Mapping) or hasattr(texts, "messages"):
        return [texts]
    if isinstance(texts, Iterable):
        found = list(cast(Iterable[Any], texts))
        if found and all(isinstance(item, Mapping) and "role" in item for item in found):
            return [found]  # the messages of one chat
        return found
    raise InvalidInputError(f"a {type(texts).__name__} is no text: give {_FORMS}, or a list of those")


def _read_texts(texts: Any) -> list[Any]:
    return [texts] if _is_pair(texts) else listed_texts(texts)


def _is_pair(text: Any) -> bool:
    """Whether it is ``(prompt, answer)``: a tuple, as several texts are a list."""
    return isinstance(text, tuple) and len(cast(tuple[Any, ...], text)) == 2 and isinstance(text[1], str)


def messages_of(text: Any) -> tuple[Message, ...]:
    """The messages of a chat in any form.

    Raises:
        InvalidInputError: it is none; names the message.
    """
    if isinstance(text, Mapping):
        text = cast(Mapping[str, Any], text).get("messages", text)
    if hasattr(text, "messages"):
        return tuple(text.messages)
    if not isinstance(text, Sequence) or isinstance(text, str) or not text:
        raise InvalidInputError(f"{text!r:.80} ({type(text).__name__}) is no chat: give {_FORMS}")
    return tuple(_message(item, place) for place, item in enumerate(cast(Sequence[Any], text)))


def _message(item: Any, place: int) -> Message:
    if isinstance(item, Message):
        return item
    fields = cast(Mapping[str, Any], item) if isinstance(item, Mapping) else {}
    role, content = fields.get("role"), fields.get("content")
    if isinstance(content, list):  # the parts of multimodal templates, of which text is all there is here
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in cast(list[Any], content)]
        content = None if None in parts else "".join(cast(list[str], parts))
    if not isinstance(role, str) or not isinstance(content, str):
        raise InvalidInputError(f"message {place} is {item!r:.80}: expected {{'role': ..., 'content': ...}} with text in both")
    return Message(role, content)


def _conversation(text: Any) -> Conversation:
    if isinstance(text, Conversation):
        return text
    if isinstance(text, str):
        return Conversation.ask(text)
    return Conversation(messages_of(text))


def _row(chat: ChatFormat, text: Any) -> TokenisedAnswer:
    if isinstance(text, TokenisedAnswer):
        return text
    if isinstance(text, str):
        row = plain_row(chat.tokenizer, text)
        return TokenisedAnswer(row.ids, max(1, row.n_prompt)) if len(row.ids) > 2 else row
    if _is_pair(text):
        return chat.tokenise(_conversation(text[0]), text[1])
    messages = messages_of(cast(Any, text))
    if messages[-1].role == "assistant" and len(messages) > 1:
        return chat.tokenise(Conversation(messages[:-1]), messages[-1].content)
    ids = tuple(chat.prompt_ids(Conversation(messages)))
    return TokenisedAnswer(ids, len(ids))


def plain_row(tokenizer: Any, text: str) -> TokenisedAnswer:
    """Text without roles, all of it answer; a token the tokenizer puts before texts by itself counts as the prompt.

    The last id of an answer is never read, so one more is put behind the text.

    Raises:
        InvalidInputError: the text is empty, or holds half of a character.
    """
    check_characters(text, "the text")
    if not text:
        raise InvalidInputError("a text is empty: there is nothing to read")
    ids = tuple(tokenizer(text)["input_ids"])
    bare = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    n_before = len(ids) - len(bare) if ids[len(ids) - len(bare) :] == bare else 0
    return TokenisedAnswer((*ids, ids[-1]) if ids else (), n_before)


class RawText(ChatFormat):
    """Plain text to be gone on with, for base models: no template, no turns, and only end ids end what is generated.

    Args:
        chat: of the model.
    """

    def __init__(self, chat: ChatFormat) -> None:
        self.__dict__ |= copy.copy(chat).__dict__
        self.plain = False

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """The ids of the text itself, with whatever the tokenizer puts before texts."""
        check_characters(conversation.question, "the text")
        return list(self.tokenizer(conversation.question)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text, leading white space and all."""
        kept = [index for index in ids if index not in self.end_ids]
        return self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
