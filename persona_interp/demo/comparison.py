"""The same question answered without steering and with it, followed while both are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from persona_interp.demo.jobs import Job
from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.rows import token_texts
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Part
from persona_interp.traits.trait import Trait
from persona_interp.vectors.steering import Steering

BASELINE, STEERED = 0, 1
"""Rows of the batch. Only the second is written to."""


@dataclass(frozen=True)
class Answer:
    """One of the two answers, as far as it is written.

    Attributes:
        text: so far.
        tokens: what each token adds to it.
        values: the projection of each token's residual onto the unit direction, before anything is added there; in activation
            units. The last token of an answer never passes through the model and has none; while the answer is written the newest
            have none yet.
        finished: whether the model ended it by itself; None while it is written.
        trait: score, 0 to 100; None where there is none, or not yet.
        coherence: likewise.
        parts: what each of several judges or measures gave it; empty where one judged.
    """

    text: str = ""
    tokens: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    finished: bool | None = None
    trait: float | None = None
    coherence: float | None = None
    parts: tuple[Part, ...] = ()

    def grown(self, text: str, values: tuple[float, ...]) -> Answer:
        """With one token more, known by what it adds to the text."""
        kept = "".join(self.tokens[:-1])
        if text.startswith(self.text):
            tokens = (*self.tokens, text[len(self.text) :])
        elif text.startswith(kept):  # this token completed a character of which the last one was a part
            tokens = (*self.tokens[:-1], "", text[len(kept) :])
        else:
            tokens = (text,)
        return replace(self, text=text, tokens=tokens, values=values)


@dataclass(frozen=True)
class Comparison:
    """Both answers.

    Attributes:
        baseline: without steering.
        steered: with it.
        judge: who scored them; empty where nobody did, or not yet.
        note: why there are no scores, in words; empty where there are, or not yet.
    """

    baseline: Answer = Answer()
    steered: Answer = Answer()
    judge: str = ""
    note: str = ""

    @property
    def both(self) -> tuple[Answer, Answer]:
        """Baseline, steered."""
        return self.baseline, self.steered


def compare(
    job: Job[Any],
    model: SteerableModel,
    push: Steering,
    conversations: tuple[Conversation, Conversation],
    sampling: Sampling,
    seed: int,
    *,
    trait: Trait | None = None,
    judge: Judge | None = None,
    show: Callable[[Comparison], None],
) -> Comparison:
    """Answer both conversations in one batch with the same random stream, the second one steered, and score the answers.

    Args:
        job: whose thread this runs in.
        model: answers.
        push: of the second, at one layer.
        conversations: the unsteered and the steered one; usually the same.
        sampling: how answers are drawn.
        seed: of both answers.
        trait: what the answers are scored for; None: they are not.
        judge: who scores them.
        show: told after every token, and once more with the scores. What it raises ends the generation.

    Raises:
        Stopped: an end was asked for.
        PersonaInterpError: as `SteerableModel.generate`. A judge that fails is only noted.
    """
    push.check(model)
    capture = Capture("answer", reduction="none", layers=push.layers)
    graph = push.graph((STEERED,)) + InterventionGraph((capture,))
    reader = _Reader(push, capture)
    shown = [Answer(), Answer()]

    def follow(row: int, text: str) -> None:
        shown[row] = shown[row].grown(text, shown[row].values)
        show(Comparison(shown[BASELINE], shown[STEERED]))

    def followed(row: int, captured: Mapping[Capture, Tensor]) -> None:
        shown[row] = replace(shown[row], values=reader.values(row, captured))

    job.doing(f"{model.name} is answering")
    generations = model.generate(
        conversations, graph=graph, sampling=sampling, seed=[seed, seed], on_text=follow, on_captured=followed
    )
    answers = [_answer(model, generation, reader.values(row, generation.captured)) for row, generation in enumerate(generations)]
    found = Comparison(answers[BASELINE], answers[STEERED])
    show(found)
    found = _scored(job, found, conversations, trait, judge)
    show(found)
    return found


class _Reader:
    """Projections out of captured residuals, with the push taken off the row that has it."""

    def __init__(self, push: Steering, capture: Capture) -> None:
        direction = push.selected.directions[0].double()
        self._norm = float(direction.norm())
        self._unit = direction / self._norm if self._norm else direction
        self._added = push.coefficient * self._norm
        self._capture = capture

    def values(self, row: int, captured: Mapping[Capture, Tensor]) -> tuple[float, ...]:
        if self._capture not in captured:
            return ()
        along = captured[self._capture][0].double() @ self._unit - (self._added if row == STEERED else 0.0)
        if not bool(torch.isfinite(along).all()):
            raise PersonaInterpError("the residual stream holds NaN or infinite values: choose a smaller coefficient")
        return tuple(along.tolist())


def _answer(model: SteerableModel, generation: Generation, values: tuple[float, ...]) -> Answer:
    ids = generation.answer_ids[:-1] if generation.finished else generation.answer_ids
    return Answer(generation.text, tuple(token_texts(model.tokenizer, ids)), values[: len(ids)], generation.finished)


def _scored(
    job: Job[Any],
    found: Comparison,
    conversations: Sequence[Conversation],
    trait: Trait | None,
    judge: Judge | None,
) -> Comparison:
    if trait is None or judge is None:
        return replace(found, note="no score: the vector goes by a name that is no trait here")
    job.doing(f"scoring by {judge.name}")
    asked = [_asked(conversation) for conversation in conversations]
    try:
        judged = judge.judge(trait, [(question, answer.text) for question, answer in zip(asked, found.both, strict=True)])
    except PersonaInterpError as error:
        job.check()
        return replace(found, note=f"no score: {error}")
    baseline, steered = (
        replace(answer, trait=judgement.trait, coherence=judgement.coherence, parts=judgement.parts)
        for answer, judgement in zip(found.both, judged, strict=True)
    )
    return Comparison(baseline, steered, judge.name)


def _asked(conversation: Conversation) -> str:
    """All the user said: a later question may speak of what an earlier one named."""
    return "\n".join(message.content for message in conversation.messages if message.role == "user")
