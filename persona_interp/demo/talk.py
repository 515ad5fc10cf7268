"""A conversation of several turns, held twice: by the model as it is, and by the steered one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from persona_interp.demo.comparison import Answer, Comparison, Scoring, compare
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_TURNS
from persona_interp.errors import InvalidInputError
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.project import project
from persona_interp.monitoring.projection import Projections
from persona_interp.storage import write_text
from persona_interp.traits.conversation import Conversation, Message
from persona_interp.vectors.steering import Steering, Together


@dataclass(frozen=True)
class Turn:
    """What was asked, and both answers."""

    question: str
    answers: Comparison


@dataclass(frozen=True)
class Talk:
    """The turns so far. Each side has heard the same questions and its own answers.

    Attributes:
        model: of the page, that answers; empty before the first turn.
        system: the system prompt; None: there is none.
        turns: at most `MAX_TURNS`.
    """

    model: str = ""
    system: str | None = None
    turns: tuple[Turn, ...] = ()

    def asked(self, question: str) -> tuple[Conversation, Conversation]:
        """What the unsteered and the steered side are to answer next.

        Raises:
            InvalidInputError: there are too many turns.
        """
        if len(self.turns) >= MAX_TURNS:
            raise InvalidInputError(f"this conversation has {MAX_TURNS} turns, as many as are kept here: begin a new one")
        baseline, steered = (Conversation((*self._messages(side), Message("user", question))) for side in (_baseline, _steered))
        return baseline, steered

    def with_turn(self, question: str, answers: Comparison) -> Talk:
        """One turn more."""
        return replace(self, turns=(*self.turns, Turn(question, answers)))

    def chats(self) -> list[Chat]:
        """Both sides, for projecting."""
        return [Chat(self._messages(_steered), "steered"), Chat(self._messages(_baseline), "unsteered")]

    def _messages(self, side: Callable[[Comparison], Answer]) -> tuple[Message, ...]:
        said = [] if self.system is None else [Message("system", self.system)]
        for turn in self.turns:
            said += [Message("user", turn.question), Message("assistant", side(turn.answers).text)]
        return tuple(said)


def _baseline(found: Comparison) -> Answer:
    return found.baseline


def _steered(found: Comparison) -> Answer:
    return found.steered


def begun(talk: Talk, model: str, system: str | None, note: Callable[[str], None]) -> Talk:
    """`talk` if it was held with that model under that system prompt, else a new one, which is noted."""
    if (talk.model, talk.system) == (model, system):
        return talk
    if talk.turns:
        note("a new conversation: the model or the system prompt is another one")
    return Talk(model, system)


def answer(
    job: Job[Any],
    model: SteerableModel,
    push: Together,
    talk: Talk,
    question: str,
    sampling: Sampling,
    seed: int,
    *,
    scoring: Scoring,
    show: Callable[[Talk], None],
) -> Talk:
    """Answer `question` on both sides; the talk with that turn.

    Args:
        job: whose thread this runs in.
        model: answers both.
        push: of the steered side.
        talk: so far.
        question: the user's next.
        sampling: how answers are drawn.
        seed: of this turn; every turn draws from a stream of its own.
        scoring: by whom, and what for.
        show: told the talk with the turn as far as it is written.

    Raises:
        InvalidInputError: too many turns, or a conversation longer than the model's context.
        PersonaInterpError: as `compare`.
    """
    own = fitting_seed(seed + len(talk.turns))

    def told(comparison: Comparison) -> None:
        show(talk.with_turn(question, comparison))

    found = compare(job, model, [push], talk.asked(question), sampling, own, scoring, told)
    return talk.with_turn(question, found)


def drift(model: SteerableModel, push: Steering, talk: Talk) -> Projections:
    """How far each answer of both sides points along the vector, read without steering.

    Raises:
        PersonaInterpError: as `project`.
    """
    return project(model, push.vector, talk.chats(), layers=push.layers, tokens=False)


def exported(talk: Talk, folder: Path) -> Path:
    """Both sides as lines of JSON, as ``persona-interp monitor`` and `Chat.from_json` read them; the file.

    Raises:
        PersonaInterpError: the folder cannot be written.
    """
    sides = [{"id": chat.name, "model": talk.model, "messages": [asdict(one) for one in chat.messages]} for chat in talk.chats()]
    path = folder / "conversation.jsonl"
    write_text(path, "".join(f"{json.dumps(side, ensure_ascii=False)}\n" for side in sides))
    return path
