"""The same question answered without steering and with it, followed while the answers are written; a reading of `measure.run`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from persona_interp.demo.jobs import Job
from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import Capture
from persona_interp.interventions.operations import Add
from persona_interp.measure.conditions import Condition
from persona_interp.measure.protocol import Asked, Protocol
from persona_interp.measure.run import Answers, Reading, Work
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.rows import token_texts
from persona_interp.traits.authoring import template_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement, Part
from persona_interp.traits.trait import Trait
from persona_interp.vectors.steering import Steering, Together


@dataclass(frozen=True)
class Answer:
    """One of the answers, as far as it is written.

    Attributes:
        text: so far.
        tokens: what each token adds to it.
        values: the projection of each token's residual onto the unit direction, in activation units, before anything is added
            there (after it, where something else than adding is done). The last token of an answer never passes through the
            model and has none; while the answer is written the newest have none yet.
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
    """The answers.

    Attributes:
        baseline: without steering.
        steered: with it.
        second: at another dose; None: there is none.
        judge: who scored them; empty where nobody did, or not yet.
        note: why there are no scores, in words; empty where there are, or not yet.
    """

    baseline: Answer = Answer()
    steered: Answer = Answer()
    second: Answer | None = None
    judge: str = ""
    note: str = ""

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Baseline, steered, and the second dose where there is one."""
        both = (self.baseline, self.steered)
        return both if self.second is None else (*both, self.second)


@dataclass(frozen=True)
class Scoring:
    """What answers are scored for, and by whom.

    Attributes:
        trait: None: they are not scored.
        judge: makes it, once the answers are there, as that may take its time; None: they are not scored.
    """

    trait: Trait | None = None
    judge: Callable[[], Judge] | None = None


class _Nobody:
    """Stands where no judge has been made yet."""

    name = ""

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        del trait
        return [Judgement(None, None) for _ in exchanges]


def compare(
    job: Job[Any],
    model: SteerableModel,
    pushes: Sequence[Together],
    conversations: Sequence[Conversation],
    sampling: Sampling,
    seed: int,
    scoring: Scoring,
    show: Callable[[Comparison], None],
) -> Comparison:
    """Answer the conversations in one batch with the same random stream, the first one unsteered, and score the answers.

    Args:
        job: whose thread this runs in.
        model: answers.
        pushes: one or two, each at one layer a part.
        conversations: of the unsteered and of each steered side; usually the same.
        sampling: how answers are drawn.
        seed: of all answers.
        scoring: by whom, and what for.
        show: told after every token, and once more with the scores. What it raises ends the generation.

    Raises:
        Stopped: an end was asked for.
        PersonaInterpError: as `SteerableModel.generate`. A judge that fails is only noted.
    """
    for push in pushes:
        push.check(model)
    steerings = [None, *pushes]
    conditions = [
        Condition("baseline" if steering is None else f"steered {number}", steering, conversations=(asked,), seeds=(seed,))
        for number, (steering, asked) in enumerate(zip(steerings, conversations, strict=True))
    ]
    follower = _Follower(model, pushes, show)
    trait = scoring.trait or template_trait("nothing", "No trait is looked for.")
    job.doing(f"{model.name} is answering")
    with tempfile.TemporaryDirectory(prefix="persona-interp-demo-answers-") as folder:
        protocol = Protocol(sampling=sampling, seed=seed, folder=folder)
        asked = Asked(protocol, trait, (conversations[0].question,), _Nobody())
        with Work(asked) as work:
            made = work.answers(model, conditions, follower.reading, follower)
            show(follower.comparison())
            found = _scored(job, follower.comparison(), work, made, conversations, scoring)
    show(found)
    return found


class _Follower:
    """Makes a comparison of what is told of the answers while they are made; see `measure.run.Follower`."""

    def __init__(self, model: SteerableModel, pushes: Sequence[Together], show: Callable[[Comparison], None]) -> None:
        first = pushes[0].parts[0]
        direction = first.selected.directions[0].double()
        norm = float(direction.norm())
        self._unit = direction / norm if norm else direction
        self._added = [0.0, *(_along(push, first.layers, self._unit) for push in pushes)]
        self._capture = Capture("answer", reduction="none", layers=first.layers)
        self._model, self._show = model, show
        self._answers = [Answer() for _ in self._added]
        self.reading = Reading((self._capture,), lambda _generation: (), list(first.layers))

    def comparison(self) -> Comparison:
        """What there is so far."""
        return _compared(self._answers)

    def read(self, places: Sequence[int], captured: Captured) -> None:
        for place in places:
            self._answers[place] = replace(self._answers[place], values=self._values(place, captured))

    def said(self, places: Sequence[int], text: str) -> None:
        for place in places:
            self._answers[place] = self._answers[place].grown(text, self._answers[place].values)
        self._show(self.comparison())

    def ended(self, places: Sequence[int], answer: Generation) -> None:
        ids = answer.answer_ids[:-1] if answer.finished else answer.answer_ids
        tokens = tuple(token_texts(self._model.tokenizer, ids))
        for place in places:
            values = self._values(place, answer.captured)[: len(ids)]
            self._answers[place] = Answer(answer.text, tokens, values, answer.finished)

    def _values(self, place: int, captured: Captured) -> tuple[float, ...]:
        if self._capture not in captured:
            return ()
        along = captured[self._capture][0].double() @ self._unit - self._added[place]
        if not bool(torch.isfinite(along).all()):
            raise PersonaInterpError("the residual stream holds NaN or infinite values: choose a smaller dose")
        return tuple(along.tolist())


def _along(push: Together, layers: tuple[int, ...], unit: Tensor) -> float:
    """How much of what is added to answers at these layers lies along the direction; 0 where more is done than adding."""
    here = [part for part in push.parts if part.layers == layers and part.positions != "prompt"]
    if any(part.operation is not Add for part in here):
        return 0.0
    return sum(part.coefficient * float(part.selected.directions[0].double() @ unit) for part in here)


def _compared(answers: Sequence[Answer], judge: str = "") -> Comparison:
    baseline, steered, *more = answers
    return Comparison(baseline, steered, more[0] if more else None, judge)


def _scored(
    job: Job[Any],
    found: Comparison,
    work: Work,
    made: Sequence[Answers],
    conversations: Sequence[Conversation],
    scoring: Scoring,
) -> Comparison:
    if scoring.trait is None or scoring.judge is None:
        return replace(found, note="no score: the vector goes by a name that is no trait here")
    job.doing("making the judge")
    try:
        judge = scoring.judge()
        job.doing(f"scoring by {judge.name}")
        asked = [replace(each, questions=(_asked(said),)) for each, said in zip(made, conversations, strict=True)]
        judged = [each.judgements[0] for each in work.judged(asked, judge)]
    except PersonaInterpError as error:
        job.check()
        return replace(found, note=f"no score: {error}")
    answers = tuple(
        replace(answer, trait=judgement.trait, coherence=judgement.coherence, parts=judgement.parts)
        for answer, judgement in zip(found.answers, judged, strict=True)
    )
    return _compared(answers, judge.name)


def _asked(conversation: Conversation) -> str:
    """All the user said: a later question may speak of what an earlier one named."""
    return "\n".join(message.content for message in conversation.messages if message.role == "user")


def alone(*steerings: Steering) -> tuple[Together, ...]:
    """Each steering by itself, as `compare` takes them."""
    return tuple(Together((each,)) for each in steerings)
