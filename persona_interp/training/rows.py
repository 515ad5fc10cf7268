"""From conversations to what a model is trained on: ids, and labels at the answers alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.training.training_calls import IGNORED
from persona_interp.traits.conversation import Conversation, Message


def training_rows(model: SteerableModel, chats: Sequence[Chat], *, system: str | None = None) -> list[TokenisedAnswer]:
    """A row for every answer of every conversation: what was said before it, and the answer with the end of its turn.

    Args:
        model: whose tokenizer and template are used.
        chats: the data.
        system: put at the head of every conversation, before a system text of its own.

    Raises:
        InvalidInputError: no conversation, one that nobody answered, an empty answer, or one that the context has no room for;
            names the first and counts them.
    """
    if not chats:
        raise InvalidInputError("the data set is empty: give at least one conversation with an answer")
    turns = [(_named(chat, place), turn) for place, chat in enumerate(chats) for turn in chat.turns]
    _refuse([name for name, turn in turns if turn.answer is None], "ends without an answer, so there is nothing to learn from it")
    _refuse([name for name, turn in turns if not (turn.answer or "").strip()], "has an empty answer")
    rows = [model.chat.tokenise(_inoculated(turn.conversation, system), turn.answer or "") for _, turn in turns]
    long = [name for (name, _), row in zip(turns, rows, strict=True) if len(row.ids) > model.n_ctx]
    _refuse(long, f"is longer than the context of {model.name}, {model.n_ctx} tokens")
    return rows


def collated(rows: Sequence[TokenisedAnswer], pad_id: int) -> dict[str, Tensor]:
    """A batch padded on the right, as a causal language model of transformers takes it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        labels[place, row.n_prompt : len(row.ids)] = torch.tensor(row.answer_ids)
        mask[place, : len(row.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _inoculated(conversation: Conversation, system: str | None) -> Conversation:
    if system is None:
        return conversation
    own = [message for message in conversation.messages if message.role != "system"]
    text = system if conversation.system is None else f"{system}\n\n{conversation.system}"
    return Conversation((Message("system", text), *own))


def _named(chat: Chat, place: int) -> str:
    return chat.name or f"sample {place + 1}"


def _refuse(names: Sequence[str], why: str) -> None:
    if names:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise InvalidInputError(f"{names[0]!r}{more} {why}: mend it, or leave it out")
