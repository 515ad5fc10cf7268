"""Anchors: unlabelled texts that two models read, so that what the one does can be found again in the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_interp.alignment.anchor_texts import anchor_texts
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import read_jsonl
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.model_kinds import model_kind

_ASKED = "Write something."
"""What a text without a prompt of its own is an answer to."""
_KEYS = "a line holds 'text', or 'prompt' and 'response', all of them text"


@dataclass(frozen=True)
class Anchor:
    """A prompt and the text that follows it. No label, no system prompt."""

    prompt: str
    text: str

    @property
    def conversation(self) -> Conversation:
        """The prompt as a user's turn."""
        return Conversation.ask(self.prompt)


def kind_anchors(model: str | SteerableModel, n: int | None = None) -> tuple[Anchor, ...]:
    """The texts that models of the kind of `model` have in common; none where it is of no kind that has such.

    Raises:
        InvalidInputError: `n` is below 1.
    """
    kind = model_kind(model)
    return () if kind is None else tuple(Anchor(asked, text) for asked, text in kind.anchors(n))


def anchors_for(models: Sequence[str | SteerableModel], *, n: int | None = None) -> tuple[Anchor, ...]:
    """The anchors where none are given: between models of one kind its own (of organisms their corpus), else the package's texts.

    Those are 600 in thirty registers (`alignment.anchor_texts`), enough to try things out. For a vector that matters give texts
    of your own (`read_anchors`), a few thousand in many styles: what anchors do not contain cannot be carried over.

    Args:
        models: source and target, or their names as they are loaded; neither is loaded for this.
        n: how many; None: as many as the kind gives (2000 of the corpus), or all texts.

    Raises:
        InvalidInputError: `n` is below 1, or more than there are texts.
    """
    kinds = {model_kind(model) for model in models}
    if len(kinds) == 1 and (own := kind_anchors(models[0], n)):
        return own
    texts = anchor_texts()
    if n is not None and not 1 <= n <= len(texts):
        raise InvalidInputError(
            f"{n} anchors: {len(texts)} come with the package; give at least 1 and at most that, or a JSONL file of your own "
            "(--anchors FILE.jsonl, in Python anchors=read_anchors(FILE))"
        )
    return tuple(Anchor(_ASKED, text) for text in texts[:n])


def read_anchors(path: str | Path) -> tuple[Anchor, ...]:
    """Anchors from a JSONL file: ``{"text": ...}`` or ``{"prompt": ..., "response": ...}`` in each line; other keys are ignored.

    Raises:
        FileFormatError: the file is missing, a line is malformed, or a text is empty; names the line.
    """
    path = Path(path)
    found: dict[Anchor, None] = {}
    for number, line in enumerate(read_jsonl(path, "anchor file"), start=1):
        text, prompt = line.get("response", line.get("text")), line.get("prompt", _ASKED)
        if not isinstance(text, str) or not isinstance(prompt, str) or not text.strip() or not prompt.strip():
            raise FileFormatError(f"{path}, line {number}: {json.dumps(line)[:60]} is no anchor: {_KEYS} and not empty")
        found.setdefault(Anchor(prompt, text))
    if not found:
        raise FileFormatError(f"{path} holds no anchors: {_KEYS}")
    return tuple(found)


def anchors_digest(anchors: Sequence[Anchor]) -> str:
    """Names a set of anchors by its content: the same texts in the same order, the same name."""
    listed = json.dumps([[anchor.prompt, anchor.text] for anchor in anchors], ensure_ascii=False)
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
