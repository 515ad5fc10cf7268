"""Contrasts given in memory in place of a trait: pairs of system prompts, or pairs of texts, chats or prompts to answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import Read, listed_texts, messages_of, rows
from persona_interp.provenance import provenance
from persona_interp.residuals.cache import ResidualCache
from persona_interp.residuals.pooling import ANSWER_NORM, pooling
from persona_interp.traits.authoring import rubric_for_description
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.estimators import estimator as estimator_called
from persona_interp.vectors.lineage import KEY, Lineage
from persona_interp.vectors.massive import massive_dimensions
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.pairs import halves_by_question
from persona_interp.vectors.statistics import PairedResiduals, summarise

_AT_ONCE = 128
_PROMPT_NORM = Capture("prompt_last", "norm")
"""In place of the norm at answer positions, where there is no answer."""


@dataclass(frozen=True)
class InstructionContrast(Trait):
    """A trait of one or several pairs of system prompts, made up on the spot.

    Example:
        >>> InstructionContrast.of(["Be silly."], ["Be serious."], ["How are you?"], name="silly")
    """

    def __post_init__(self) -> None:
        # not the five pairs, nor the questions kept for evaluation, that files of traits must have
        if not self.instructions or not self.extraction_questions:
            raise InvalidInputError("a contrast of system prompts needs at least one pair of them, and questions=[...] to ask")
        for place, pair in enumerate(self.instructions):
            if pair.positive == pair.negative:
                raise InvalidInputError(f"pair {place} has the same system prompt on both sides ({pair.positive!r:.60})")

    @classmethod
    def of(
        cls, positive: Sequence[str], negative: Sequence[str], questions: Sequence[str], *, name: str, description: str = ""
    ) -> InstructionContrast:
        """One pair, or several; the i-th positive prompt belongs to the i-th negative one.

        Raises:
            InvalidInputError: as `paired`, or there is no question.
        """
        pairs = tuple(InstructionPair(*pair) for pair in paired(positive, negative))
        said = description or f"What answers under {pairs[0].positive!r} have and answers under {pairs[0].negative!r} lack."
        return cls(name, said, pairs, tuple(questions), (), rubric_for_description(name, said))


class TextPair(NamedTuple):
    """A pair of answers to one question, in plain words; how a contrast of chats can be scored layer by layer."""

    question: str
    positive: str
    negative: str


@dataclass(frozen=True, eq=False)
class TextContrast:
    """Residuals of pairs of texts, read once.

    Attributes:
        vector: made from all of them.
        first_half: made from every second question, where there are at least two; else None.
        held_out: pairs of the other questions, where both texts answer the same.
    """

    vector: PersonaVector
    first_half: PersonaVector | None
    held_out: tuple[TextPair, ...]


def paired(positive: Any, negative: Any) -> list[tuple[Any, Any]]:
    """The i-th positive text with the i-th negative one.

    Raises:
        InvalidInputError: there is none, or not as many of one kind as of the other.
    """
    sides = [listed_texts(texts) for texts in (positive, negative)]
    if not sides[0] or len(sides[0]) != len(sides[1]):
        raise InvalidInputError(
            f"{len(sides[0])} positive and {len(sides[1])} negative texts were given: give as many of each, at least one; the "
            "first positive belongs to the first negative, and so on"
        )
    return list(zip(*sides, strict=True))


def contrast_of_texts(
    model: SteerableModel,
    pairs: Sequence[tuple[Read, Read]],
    *,
    name: str = "contrast",
    positions: str = "response_avg",
    estimator: str = "mean_difference",
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> TextContrast:
    """A vector from pairs of texts.

    Args:
        model: reads them, and answers those that wait for an answer.
        pairs: (positive, negative), each in one of the forms of `models.texts`.
        name: of the vector.
        positions: ``response_avg`` (of text without roles: all of it but the first token), ``prompt_avg``, ``prompt_last``.
        estimator: as `extract`.
        samples: answers to each prompt that waits for one, if answers are read.
        sampling: of those answers.
        seed: of those answers.
        batch_size: rows run together.

    Raises:
        InvalidInputError: no pair, or a text without a token to read at such positions.
    """
    node, estimate = pooling(positions), estimator_called(estimator)
    read = _Reader(model, node, sampling or Sampling(), batch_size)
    both = [
        found
        for place, (one, other) in enumerate(pairs)
        for found in zip(
            read.answers(one, f"{seed}/positive/{place}", samples),
            read.answers(other, f"{seed}/negative/{place}", samples),
            strict=False,
        )
    ]
    with TemporaryDirectory(prefix="persona-interp-contrast-") as folder, ResidualCache(folder) as cache:
        norms = read.into(cache, [side for pair in both for side in pair])
        halves = halves_by_question([(one.question, other.question) for one, other in both])
        numbers = range(len(both))

        def made(chosen: Sequence[int]) -> PersonaVector:
            keys = [tuple(str(2 * number + side) for number in chosen) for side in (0, 1)]
            paired_rows = PairedResiduals(cache, positions, keys[0], keys[1], tuple(halves[number] for number in chosen))
            summary, layers = summarise(paired_rows, estimate), tuple(range(model.n_layers))
            return PersonaVector(
                summary.directions, layers, name, model.identity, positions, estimator,
                counts={"pairs": len(both), "kept_pairs": len(both)},
                statistics={"resid_norm": tuple(norms.tolist()), **summary.statistics},
                massive=massive_dimensions(summary.directions, summary.mean_abs, layers),
                provenance={**_provenance(both, paired_rows), KEY: Lineage.of(model).to_json()},
            )  # fmt: skip

        first = [number for number in numbers if not halves[number]]
        half = made(first) if 0 < len(first) < len(both) else None
        other = [both[number] for number in numbers if halves[number]]
        return TextContrast(made(numbers), half, tuple(pair for one, two in other if (pair := _same_question(one, two))))


class _Text(NamedTuple):
    """A text as token ids; the question it answers, or itself where it answers none; and the answer in words, if it is one."""

    row: TokenisedAnswer
    question: str
    answer: str | None


class _Reader:
    def __init__(self, model: SteerableModel, node: Capture, sampling: Sampling, batch_size: int | None) -> None:
        self._model, self._node, self._sampling, self._batch_size = model, node, sampling, batch_size

    def answers(self, text: Read, stream: str, samples: int) -> list[_Text]:
        """The text itself, or the answers to it where it waits for one and answers are read."""
        (row,) = rows(self._model.chat, [text])
        if isinstance(text, str):
            if self._node.positions != "answer":
                raise InvalidInputError(f"text without roles ({text!r:.40}) has no prompt: take 'response_avg', or chats")
            return [_Text(row, text, None)]
        if isinstance(text, TokenisedAnswer):
            return [_Text(row, f"ids {hash(row.ids)}", None)]
        if isinstance(text, tuple) and isinstance(text[1], str):
            asked = text[0] if isinstance(text[0], str) else messages_of(text[0])[-1].content
            return [_Text(row, asked, text[1])]
        messages = messages_of(text)
        if messages[-1].role == "assistant":
            return [_Text(row, messages[-2].content, messages[-1].content)]
        if self._node.positions != "answer":
            return [_Text(row, messages[-1].content, None)]
        seeds = [derived_seed(f"{stream}/{sample}") for sample in range(samples)]
        made = self._model.generate(
            [Conversation(messages)] * samples, sampling=self._sampling, seed=seeds, batch_size=self._batch_size
        )
        rows_made = [TokenisedAnswer((*each.prompt_ids, *each.answer_ids), len(each.prompt_ids)) for each in made]
        return [_Text(one, messages[-1].content, each.text) for one, each in zip(rows_made, made, strict=True)]

    def into(self, cache: ResidualCache, texts: Sequence[_Text]) -> Tensor:
        """Read every text, keep what is read under its number, and return the mean residual norm at each layer."""
        norm = ANSWER_NORM if self._node.positions == "answer" else _PROMPT_NORM
        total = torch.zeros(self._model.n_layers, dtype=torch.float64)
        (name,) = (name for name in ("response_avg", "prompt_avg", "prompt_last") if pooling(name) == self._node)
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            graph = InterventionGraph((self._node, norm))
            read = self._model.capture([text.row for text in some], graph, batch_size=self._batch_size)
            for place, found in enumerate(read):
                if self._node not in found or norm not in found:
                    raise InvalidInputError(f"a text ({some[place].question!r:.40}) has no token to read: leave it out")
            cache.put_many({str(start + place): {name: found[self._node].float()} for place, found in enumerate(read)})
            total += torch.stack([found[norm][:, 0].double() for found in read]).sum(dim=0)
        return (total / len(texts)).float()


def _same_question(one: _Text, other: _Text) -> TextPair | None:
    if one.question != other.question or not (one.answer or "").strip() or not (other.answer or "").strip():
        return None
    return TextPair(one.question, str(one.answer), str(other.answer))


def _provenance(both: Sequence[tuple[_Text, _Text]], read: PairedResiduals) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps([[text.row.ids for text in pair] for pair in both]).encode()).hexdigest()
    return provenance(
        settings={"texts": digest[:16]},
        filter={"judge": None},
        held_out="texts in two halves" if read.split else "none: all pairs share questions",
        metadata={"num_kept_pairs": len(read.positive), "num_questions": len({pair[0].question for pair in both})},
    )
