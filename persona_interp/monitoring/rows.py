"""Conversations laid out as rows for the model: one row for a whole conversation wherever its turns share their tokens.

A turn's prompt is all that was said before it. Under a causal model the residuals of a turn are the same in a longer row, so one
row serves every turn whose tokens it begins with. A template that rewrites earlier turns (some drop earlier reasoning) gives such
a turn a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import messages_of, plain_row
from persona_interp.monitoring.chats import Chat
from persona_interp.traits.conversation import Conversation

Text: TypeAlias = str | Conversation | Chat | Sequence[Mapping[str, Any]]
"""Text without roles, or a chat: also as Hugging Face has it, a list of messages."""


@dataclass(frozen=True)
class TurnRow:
    """Where one turn lies.

    Attributes:
        chat: which text it belongs to.
        prompt: what the user said last; empty for plain text.
        answer: None where there is none.
        tokenised: the turn's own row.
        plain: whether it is text without roles.
    """

    chat: int
    prompt: str
    answer: str | None
    tokenised: TokenisedAnswer
    plain: bool

    @property
    def n_read(self) -> int:
        """Tokens that pass through the model: all but the last of an answer."""
        return len(self.tokenised.ids) - bool(self.tokenised.answer_ids)


@dataclass(frozen=True)
class SharedRow:
    """A row, the turns that can be read off it (by index, in order), and how many of its tokens pass through the model."""

    tokenised: TokenisedAnswer
    turns: tuple[int, ...]
    n_read: int


def turn_rows(model: SteerableModel, texts: Sequence[Text]) -> list[TurnRow]:
    """Every turn of every text, in order.

    Raises:
        InvalidInputError: the model's chat template refuses a conversation, or a text holds half of a character.
    """
    found: list[TurnRow] = []
    for place, text in enumerate(texts):
        if isinstance(text, str):
            found.append(TurnRow(place, "", text, plain_row(model.tokenizer, text), True))
            continue
        chat = text if isinstance(text, Chat) else Chat(messages_of(text))
        for turn in chat.turns:
            if turn.answer is None:
                ids = tuple(model.chat.prompt_ids(turn.conversation))
                row = TokenisedAnswer(ids, len(ids))
            else:
                row = model.chat.tokenise(turn.conversation, turn.answer)
            found.append(TurnRow(place, turn.conversation.question, turn.answer, row, False))
    return found


def shared_rows(turns: Sequence[TurnRow]) -> list[SharedRow]:
    """The fewest rows that hold all turns: each turn in the longest row of its text that begins with its tokens."""
    rows: list[tuple[TurnRow, list[int]]] = []
    for index in reversed(range(len(turns))):
        turn = turns[index]
        for host, members in rows:
            ids = turn.tokenised.ids[: turn.n_read]
            if host.chat == turn.chat and turn.n_read <= host.n_read and host.tokenised.ids[: turn.n_read] == ids:
                members.insert(0, index)
                break
        else:
            rows.append((turn, [index]))
    return [SharedRow(host.tokenised, tuple(members), host.n_read) for host, members in reversed(rows)]


def chunks(rows: Sequence[SharedRow], most: int) -> Iterator[list[SharedRow]]:
    """Rows in groups of at most `most` tokens, or of one row where that alone has more."""
    group: list[SharedRow] = []
    held = 0
    for row in rows:
        if group and held + row.n_read > most:
            yield group
            group, held = [], 0
        group.append(row)
        held += row.n_read
    if group:
        yield group


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; a token that is only part of a character shows as the replacement character."""
    found: list[str] = []
    for place, index in enumerate(ids):
        alone = tokenizer.decode([index], clean_up_tokenization_spaces=False)
        if place:  # decoded alone, some tokenizers drop the space a token begins with
            before = tokenizer.decode([ids[place - 1]], clean_up_tokenization_spaces=False)
            both = tokenizer.decode([ids[place - 1], index], clean_up_tokenization_spaces=False)
            if both.startswith(before) and "\ufffd" not in both:
                alone = both[len(before) :]
        found.append(alone)
    return found
