"""`Protocol`: how something is measured. Which questions, how many answers to each, who scores them, what is kept where."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from persona_interp.errors import InvalidInputError
from persona_interp.judges.composed import calibrations
from persona_interp.judges.registry import load_judge
from persona_interp.models.sampling import Sampling, derived_seed, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait

T = TypeVar("T")
Streams = Literal["question", "place"]
"""What the random stream of an answer hangs on beside the seed: the text of its question and its number among the answers to it,
or its place among all answers of a condition (as in `SteerableModel.generate` with one seed). Either way conditions are compared
on paired answers; by question, more questions or samples also change none of the answers there are."""


class MeasuringOptions(TypedDict, total=False):
    """The attributes of `Protocol`, as functions take them by name that have ``num_prompts`` among their own parameters.

    `protocol` is what the others are changed in.
    """

    protocol: Protocol | None
    questions: Sequence[str] | None
    samples: int
    judge: str | Judge | None
    sampling: Sampling | None
    seed: int
    folder: str | Path | None
    batch_size: int | None


class ProtocolOptions(MeasuringOptions, total=False):
    """All attributes of `Protocol`, as functions take them by name."""

    num_prompts: int | None


@dataclass(frozen=True)
class Protocol:
    """How answers are made and scored.

    Attributes:
        questions: asked under every condition; None: those of the trait, for evaluation or as the function says.
        num_prompts: how many of them, from the first; None: all. Of more than there are each is asked several times.
        samples: answers to each question under each condition.
        judge: scores them: a judge or its name (`load_judge`).
        sampling: how answers are drawn; None: the defaults of `Sampling`.
        seed: of the answers.
        folder: keeps every answer and score as it is made, so that work cut short goes on where it stopped. None: a temporary
            one, kept only if something goes wrong.
        batch_size: rows run together; None: chosen by the model.

    Raises:
        InvalidInputError: `samples` is below 1.
    """

    questions: Sequence[str] | None = None
    num_prompts: int | None = None
    samples: int = 1
    judge: str | Judge | None = "auto"
    sampling: Sampling | None = None
    seed: int = 0
    folder: str | Path | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InvalidInputError(f"samples is {self.samples}: give at least 1 answer a question")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Protocol:
        """From what a function was given by name; see `ProtocolOptions`.

        Raises:
            TypeError: there is no such option.
            InvalidInputError: `samples` is below 1.
        """
        (found,) = split(options, cls)
        return found

    def asked(
        self,
        model: SteerableModel,
        trait: Trait | str | Path,
        questions: Sequence[str] | None = None,
        *,
        streams: Streams = "question",
        distinct: bool = True,
    ) -> Asked:
        """The protocol for one trait in one model: its questions, and the judge, loaded.

        Args:
            model: the one that answers, or that the judge is made for.
            trait: scored, or its name (`resolve_trait`).
            questions: asked where the protocol names none; the trait's evaluation questions if None.
            streams: see `Streams`.
            distinct: whether every question must be another.

        Raises:
            InvalidInputError: there is no question, one twice, or `num_prompts` is below 1.
            UnknownNameError: there is no such trait or judge.
        """
        trait = resolve_trait(model, trait)
        chosen = _questions(trait, questions if self.questions is None else self.questions, self.num_prompts, distinct)
        return Asked(self, trait, chosen, load_judge(self.judge, model, trait=trait), streams)


@dataclass(frozen=True)
class Asked:
    """A protocol with nothing left open: what is asked, and who scores it.

    Attributes:
        protocol: the rest.
        trait: scored.
        questions: asked, from the first.
        judge: scores them.
        streams: see `Streams`.
    """

    protocol: Protocol
    trait: Trait
    questions: tuple[str, ...]
    judge: Judge
    streams: Streams = "question"
    samples: int = field(init=False)
    sampling: Sampling = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.protocol.num_prompts or 0
        times = max(1, math.ceil(wanted / len(self.questions)))  # more prompts than questions: further samples
        object.__setattr__(self, "samples", times * self.protocol.samples)
        object.__setattr__(self, "sampling", self.protocol.sampling or Sampling())

    @property
    def rows(self) -> list[tuple[str, int]]:
        """(question, number of the sample), all samples of the first question first."""
        return [(question, sample) for question in self.questions for sample in range(self.samples)]

    @property
    def seeds(self) -> list[int]:
        """One for each of `rows`."""
        seed = self.protocol.seed
        if self.streams == "place":
            return row_seeds(seed, len(self.questions) * self.samples)
        return [derived_seed(f"{seed}/{question}/{sample}") for question, sample in self.rows]

    @property
    def record(self) -> dict[str, Any]:
        """What provenance says of it."""
        scales = [each.to_json() for each in calibrations(self.judge, self.trait)]
        made = {"seed": self.protocol.seed, "sampling": self.sampling.to_json()}
        return {**made, "calibrations": scales} if scales else made


def split(options: Mapping[str, Any], *kinds: type[Any]) -> list[Any]:
    """One object of each kind, from options that are named after the kinds' fields.

    ``protocol`` is what the options change, and one that says ``num_prompts`` is kept where the function was given none.

    Raises:
        TypeError: an option that none of the kinds has.
    """
    left = {name: value for name, value in options.items() if name != "protocol" and (name, value) != ("num_prompts", None)}
    found: list[Any] = []
    for kind in kinds:
        names = {each.name for each in dataclasses.fields(kind) if each.init}
        own = {name: left.pop(name) for name in names & left.keys()}
        base = options.get("protocol") if kind is Protocol else None
        found.append(kind(**own) if base is None else dataclasses.replace(base, **own))
    if left:
        known = sorted({each.name for kind in kinds for each in dataclasses.fields(kind) if each.init})
        raise TypeError(f"there is no option {next(iter(left))!r}: options are {', '.join(known)}")
    return found


def checked_coefficients(coefficients: Sequence[float], *, steered: bool = True) -> tuple[float, ...]:
    """Coefficients, each once.

    Args:
        coefficients: any.
        steered: whether one of them must be other than 0.

    Raises:
        InvalidInputError: there is none, one twice or not finite, or none other than 0.
    """
    doses = tuple(map(float, coefficients))
    listed = ", ".join(f"{dose:g}" for dose in doses) or "none"
    if not doses or len(set(doses)) != len(doses) or not all(map(math.isfinite, doses)):
        raise InvalidInputError(f"coefficients are {listed}: give at least one, finite, each once")
    if steered and not any(doses):
        raise InvalidInputError(f"coefficients are {listed}: with 0 alone nothing is steered; give at least one other, such as 1")
    return doses


def _questions(trait: Trait, questions: Sequence[str] | None, num_prompts: int | None, distinct: bool) -> tuple[str, ...]:
    known = tuple(trait.evaluation_questions if questions is None else questions)
    if not known:
        raise InvalidInputError(
            f"trait {trait.name!r} has no evaluation questions: pass questions=[...], or add some to its file behind the first "
            "n_extraction ones, which are kept for extraction"
        )
    if distinct and len(set(known)) != len(known):
        raise InvalidInputError("a question is given twice: give each once; samples=2 asks every one twice")
    if num_prompts is None:
        return known
    if num_prompts < 1:
        raise InvalidInputError(f"num_prompts is {num_prompts}: ask at least 1 of the {len(known)} questions of {trait.name!r}")
    if num_prompts > len(known):
        say(
            f"note: there are {len(known)} questions for {trait.name!r}, and {num_prompts} prompts were asked for: each question "
            f"is asked {math.ceil(num_prompts / len(known))} times as often, which narrows intervals less than others would"
        )
    return known[:num_prompts]
