"""Rollouts: answers of a model under the positive and the negative system prompts, and other people's answers in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.sampling import derived_seed
from persona_interp.storage import read_jsonl
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement

Sign: TypeAlias = Literal["positive", "negative"]
SIGNS: tuple[Sign, Sign] = ("positive", "negative")


class Slot(NamedTuple):
    """Where a pair of rollouts belongs: which instruction pair, which question, which of several samples; all 0-based."""

    instruction: int
    question: int
    sample: int


class RolloutKey(NamedTuple):
    """One rollout: its slot and its sign."""

    sign: Sign
    slot: Slot

    def seed(self, seed: int) -> int:
        """This rollout's own sampling seed: asking for more samples later changes none of those already made."""
        return derived_seed(f"{seed}/{self.sign}/{self.slot.instruction}/{self.slot.question}/{self.slot.sample}")


@dataclass(frozen=True)
class Rollout:
    """One answer.

    Attributes:
        key: sign, instruction, question and sample.
        conversation: what was asked, with the system prompt.
        answer: the text, without an end-of-turn token.
        prompt_ids: ids of the prompt, or none where only texts are known.
        answer_ids: ids of the answer; the end-of-turn id is the last where the answer ended.
        finished: whether it ended by itself rather than at the token limit.
        model: fingerprint of the model whose tokenizer made the ids; empty where there are none.
        judgement: scores that came with a rollout given by the user, or None.
    """

    key: RolloutKey
    conversation: Conversation
    answer: str
    prompt_ids: tuple[int, ...] = ()
    answer_ids: tuple[int, ...] = ()
    finished: bool = True
    model: str = ""
    judgement: Judgement | None = None

    @property
    def readable(self) -> bool:
        """Whether an answer position passes through the model: the last id never does, so an answer needs two."""
        return len(self.answer_ids) >= 2

    def to_json(self) -> dict[str, Any]:
        """One line of a rollout log."""
        scores = (
            {} if self.judgement is None else {"trait_score": self.judgement.trait, "coherence_score": self.judgement.coherence}
        )
        return {
            "sign": self.key.sign,
            **self.key.slot._asdict(),
            "conversation": self.conversation.to_json(),
            "answer": self.answer,
            "prompt_ids": list(self.prompt_ids),
            "answer_ids": list(self.answer_ids),
            "finished": self.finished,
            "model": self.model,
            **scores,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, source: str) -> Rollout:
        """Read what `to_json` writes.

        Raises:
            FileFormatError: a field is missing or of the wrong type.
        """
        try:
            slot = Slot(*(_count(value[name], name) for name in Slot._fields))
            return cls(
                key=RolloutKey(_sign(value["sign"], "sign"), slot),
                conversation=Conversation.from_json(value["conversation"], source=source),
                answer=_text(value["answer"], "answer"),
                prompt_ids=tuple(_count(index, "prompt_ids") for index in value["prompt_ids"]),
                answer_ids=tuple(_count(index, "answer_ids") for index in value["answer_ids"]),
                finished=bool(value["finished"]),
                model=_text(value["model"], "model"),
                judgement=_scores(value),
            )
        except KeyError as error:
            raise FileFormatError(
                f"{source} has no field {error}: a rollout of ours needs all of those `Rollout.to_json` writes"
            ) from error
        except (TypeError, InvalidInputError) as error:
            raise FileFormatError(f"{source}: {error}") from error


def read_rollouts(path: Path) -> Iterator[Rollout]:
    """Rollouts given by the user, one JSON object a line.

    Two kinds of line are read: those of our own logs, and
    ``{"prompt": ..., "system": optional, "response": ..., "label": "positive" | "negative"}`` with, if wanted, ``trait_score``,
    ``coherence_score`` (0 to 100) and ``pair``. The n-th positive and the n-th negative answer to the same prompt form a pair;
    where the prompts of the two kinds differ, lines with equal ``pair`` (any text or number) belong together instead.

    Raises:
        FileFormatError: the file is missing or empty, or a line is neither kind (names the line and the field).
    """
    groups: dict[str, int] = {}
    seen: dict[tuple[int, Sign], int] = {}
    number = 0
    for number, value in enumerate(read_jsonl(path, "rollout file", forgive_last=True), start=1):
        source = f"rollout file {path}, entry {number}"
        yield Rollout.from_json(value, source=source) if "sign" in value else _labelled(value, groups, seen, source)
    if not number:
        raise FileFormatError(f"rollout file {path} is empty: give one JSON object a line")


def _labelled(value: Mapping[str, Any], groups: dict[str, int], seen: dict[tuple[int, Sign], int], source: str) -> Rollout:
    if missing := [name for name in ("prompt", "response", "label") if name not in value]:
        raise FileFormatError(
            f"{source} has no field {', '.join(map(repr, missing))}: a line needs 'prompt', 'response' "
            "and 'label', and may have 'system', 'pair', 'trait_score', 'coherence_score'"
        )
    try:
        sign = _sign(value["label"], "label")
        system = value.get("system")
        conversation = Conversation.ask(_text(value["prompt"], "prompt"), None if system is None else _text(system, "system"))
        answer = _text(value["response"], "response")
        judgement = _scores(value)
    except InvalidInputError as error:
        raise FileFormatError(f"{source}: {error}") from error
    group = f"pair {value['pair']}" if "pair" in value else f"prompt {conversation.question}"
    question = groups.setdefault(group, len(groups))
    sample = seen.get((question, sign), 0)
    seen[question, sign] = sample + 1
    return Rollout(RolloutKey(sign, Slot(0, question, sample)), conversation, answer, judgement=judgement)


def _sign(value: object, name: str) -> Sign:
    if value not in SIGNS:
        raise InvalidInputError(f"field {name!r} is {value!r}: use 'positive' or 'negative'")
    return cast(Sign, value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"field {name!r} is a {type(value).__name__} ({value!r}): expected text")
    return value


def _count(value: object, name: str) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInputError(f"field {name!r} holds {value!r}: expected an integer from 0 on")
    return value


def _scores(value: Mapping[str, Any]) -> Judgement | None:
    if "trait_score" not in value and "coherence_score" not in value:
        return None
    scores: list[float | None] = []
    for name in ("trait_score", "coherence_score"):
        score = value.get(name)
        if score is not None and type(score) not in (int, float):
            raise InvalidInputError(f"field {name!r} is {score!r}: expected a number from 0 to 100, or null")
        scores.append(None if score is None else float(score))
    return Judgement(scores[0], scores[1])
