"""The one place where answers are generated, judged and cut into points: `run`, and `Work`, for what takes several steps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.judges.cached import CachedJudge
from persona_interp.locks import folder_lock
from persona_interp.measure.conditions import Condition
from persona_interp.measure.point import DosePoint, Points, judged_point
from persona_interp.measure.protocol import Asked
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.steering import Steering

K = TypeVar("K")
ANSWERS, JUDGEMENTS = "answers.jsonl", "judgements.jsonl"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Reading:
    """Numbers read from the model while it answers, kept beside each answer.

    Attributes:
        captures: what is read.
        values: from a generation that has them to numbers, None where there is none.
        key: what `values` depends on besides the captures, as JSON values.
    """

    captures: tuple[Capture, ...]
    values: Callable[[Generation], Sequence[float | None]]
    key: Any = None


@runtime_checkable
class Follower(Protocol):
    """Is told how answers grow while they are made; what it raises ends them.

    `places` count the answers of all conditions, in order; answers that are alike in everything are made once for several.
    """

    def read(self, places: Sequence[int], captured: Captured) -> None:
        """What was read of an answer so far; before `said`."""
        ...

    def said(self, places: Sequence[int], text: str) -> None:
        """The text so far."""
        ...

    def ended(self, places: Sequence[int], answer: Generation) -> None:
        """The whole answer."""
        ...


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answered under one condition.

    Attributes:
        condition: under which.
        questions: the question of each answer.
        texts: the answers, all samples of the first question first.
        samples: answers to each question.
        readings: what was read along with each answer; empty where nothing was.
        n_tokens: of all of them; of answers kept by a version that did not count, 0.
        judgements: one an answer; empty until they are judged.
    """

    condition: Condition
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    samples: int = 1
    readings: tuple[tuple[float | None, ...], ...] = ()
    n_tokens: int = 0
    judgements: tuple[Judgement, ...] = ()

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """(question, answer), as judges take them."""
        return list(zip(self.questions, self.texts, strict=True))

    def point(self, like: Steering | None = None, *, examples: Sequence[str] | None = None) -> DosePoint:
        """The answers as a point.

        Args:
            like: whose perturbation ratio is stated, at the coefficient of the condition; that of the condition's own steering if
                None. A control is as long as what it is compared with, and said to be.
            examples: shown; the first answers to the first questions if None.
        """
        steering = self.condition.steering if like is None else like.at(self.condition.coefficient)
        shown = self.texts[:: self.samples] if examples is None else examples
        return judged_point(
            self.judgements,
            coefficient=self.condition.coefficient,
            perturbation_ratio=None if steering is None else steering.perturbation_ratio,
            examples=shown,
        )


def run(model: SteerableModel, asked: Asked, conditions: Sequence[Condition]) -> list[Answers]:
    """Answer the questions under every condition, in one batched generation, and score the answers.

    What the protocol's folder holds is neither generated nor scored again.

    Example:
        >>> asked = Protocol(samples=2, judge="grammar").asked(model, "silly")
        >>> steering = Steering(vector, layers=(3,))
        >>> points = [each.point() for each in run(model, asked, [baseline(), *steered("silly", steering, [-1, 1])])]

    Args:
        model: answers.
        asked: how it is asked; see `Protocol.asked`.
        conditions: compared.

    Raises:
        InUseError: another process works in the folder.
        InvalidInputError: as `SteerableModel.generate`, or the judge gave another number of judgements than it was asked for.
        PersonaInterpError: the disk is full; what was made is kept.
    """
    with Work(asked) as work:
        return work.scored(model, conditions)


def points_of(model: SteerableModel, asked: Asked, arms: Mapping[K, Sequence[Condition]]) -> dict[K, Points]:
    """The points of conditions that are named by what they are for; see `run`."""
    answers = iter(run(model, asked, [condition for each in arms.values() for condition in each]))
    return {name: tuple(next(answers).point() for _ in each) for name, each in arms.items()}


class Work:
    """Answers and scores that are on disk, and the making of those that are not.

    A key holds all that an answer or a score depends on, so work done with other settings is never mistaken for this one's, and
    what two measurements share is made once.

    Args:
        asked: how models are asked.
        folder: where work is kept; that of the protocol if None. Made if it is not there.

    Raises:
        InUseError: another process works in the folder.
    """

    def __init__(self, asked: Asked, folder: str | Path | None = None) -> None:
        self.asked = asked
        folder = asked.protocol.folder if folder is None else folder
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="persona-interp-evaluate-") if folder is None else folder)
        with ExitStack() as held:
            if not self._temporary:
                held.enter_context(folder_lock(self.folder))
            self._answers = JsonlStore(self.folder / ANSWERS)
            self._held = held.pop_all()
        self.n_generated = 0
        self.n_judged = 0

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del kind, trace
        self._held.close()
        worth_keeping = error is not None and len(self._answers) > 0
        if worth_keeping and (self._temporary or isinstance(error, KeyboardInterrupt)):
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error"
            say(
                f"{what}: {len(self._answers)} answers are kept in {self.folder}. Evaluate with that folder "
                f"(folder={str(self.folder)!r}) to go on; none of them is made again"
            )
        if self._temporary and not worth_keeping:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def made(self) -> dict[str, int]:
        """How much was made by this object, not found, for provenance."""
        return {"generated": self.n_generated, "judged": self.n_judged}

    def scored(self, model: SteerableModel, conditions: Sequence[Condition]) -> list[Answers]:
        """Every condition's answers, scored for the protocol's trait by its judge."""
        return self.judged(self.answers(model, conditions))

    def answers(
        self,
        model: SteerableModel,
        conditions: Sequence[Condition],
        reading: Reading | None = None,
        follower: Follower | None = None,
    ) -> list[Answers]:
        """The answers under each condition; what is missing runs as one batched generation for each way of sampling.

        Args:
            model: answers.
            conditions: under which.
            reading: what is read along with each answer.
            follower: told how those grow that are made, not those that are found.

        Raises:
            InvalidInputError: as `SteerableModel.generate`.
            PersonaInterpError: the disk is full; what was made is kept.
        """
        shared: list[Any] = [FORMAT_VERSION, model.identity.fingerprint, str(model.dtype)]
        read = [] if reading is None else [[str(each) for each in reading.captures], reading.key]
        waiting: dict[Sampling, dict[str, tuple[Condition, Conversation, int]]] = {}
        found: list[tuple[Condition, list[tuple[Conversation, int]], list[str]]] = []
        places: dict[str, list[int]] = {}
        for condition in conditions:
            sampling, rows = condition.sampling or self.asked.sampling, condition.rows(self.asked)
            write = None if condition.steering is None else condition.steering.key
            settings = [*shared, sampling.to_json()]
            keys = [content_key(*settings, conversation.to_json(), seed, write, *read) for conversation, seed in rows]
            first = sum(len(each) for _, each, _ in found)
            found.append((condition, rows, keys))
            for place, key in enumerate(keys, first):
                places.setdefault(key, []).append(place)
            for key, (conversation, seed) in zip(keys, rows, strict=True):
                if key not in self._answers:
                    waiting.setdefault(sampling, {}).setdefault(key, (condition, conversation, seed))
        for sampling, order in waiting.items():
            told = None if follower is None else _Told(follower, [places[key] for key in order])
            self._generate(model, order, sampling, reading, told)
        return [self._found(condition, rows, keys) for condition, rows, keys in found]

    def judged(self, answers: Sequence[Answers], judge: Judge | None = None, trait: Trait | None = None) -> list[Answers]:
        """What a judge says of every answer, all judged together; see `CachedJudge`.

        Args:
            answers: of any conditions.
            judge: the protocol's if None.
            trait: likewise.

        Raises:
            InvalidInputError: the judge gave another number of judgements than it was asked for.
        """
        cached = CachedJudge(judge or self.asked.judge, self.folder / JUDGEMENTS)
        try:
            given = iter(cached.judge(trait or self.asked.trait, [pair for each in answers for pair in each.exchanges]))
        finally:
            self.n_judged += cached.n_asked
        return [replace(each, judgements=tuple(next(given) for _ in each.texts)) for each in answers]

    def _found(self, condition: Condition, rows: Sequence[tuple[Conversation, int]], keys: Sequence[str]) -> Answers:
        entries = [self._answers.get(key) for key in keys]
        return Answers(
            condition,
            tuple(conversation.question for conversation, _ in rows),
            tuple(str(entry["text"]) for entry in entries),
            self.asked.samples if condition.conversations is None else 1,
            tuple(tuple(entry.get("readings", ())) for entry in entries),
            sum(int(entry.get("n_tokens", 0)) for entry in entries),
        )

    def _generate(
        self,
        model: SteerableModel,
        waiting: dict[str, tuple[Condition, Conversation, int]],
        sampling: Sampling,
        reading: Reading | None,
        told: _Told | None,
    ) -> None:
        order = list(waiting.items())
        graph = InterventionGraph(() if reading is None else reading.captures)
        for condition in dict.fromkeys(condition for condition, _, _ in waiting.values()):
            if condition.steering is not None:
                graph += condition.steering.graph([row for row, (_, (own, _, _)) in enumerate(order) if own is condition])

        def keep(row: int, answer: Generation) -> None:
            key, (condition, conversation, _) = order[row]
            described = {"arm": condition.name, "coefficient": condition.coefficient, "messages": conversation.to_json()}
            said = {"text": answer.text, "finished": answer.finished, "n_tokens": len(answer.answer_ids)}
            read = {} if reading is None else {"readings": list(reading.values(answer))}
            self._answers.put(key, {**described, **said, **read})
            self.n_generated += 1
            if told is not None:
                told.ended(row, answer)

        model.generate(
            [conversation for _, (_, conversation, _) in order],
            graph=graph,
            sampling=sampling,
            seed=[seed for _, (_, _, seed) in order],
            batch_size=self.asked.protocol.batch_size,
            on_generation=keep,
            on_text=None if told is None else told.said,
            on_captured=None if told is None or reading is None else told.read,
        )


@dataclass(frozen=True, eq=False)
class _Told:
    """A follower, told by the rows of one generation."""

    follower: Follower
    places: list[list[int]]

    def read(self, row: int, captured: Captured) -> None:
        self.follower.read(self.places[row], captured)

    def said(self, row: int, text: str) -> None:
        self.follower.said(self.places[row], text)

    def ended(self, row: int, answer: Generation) -> None:
        self.follower.ended(self.places[row], answer)
