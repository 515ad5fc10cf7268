"""Scores kept on disk as they come: what was paid for once is never asked for again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from persona_interp.errors import FileFormatError
from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.judges.determinants import determinants
from persona_interp.judges.one_each import one_each
from persona_interp.progress import track
from persona_interp.traits.judging import Judge, Judgement, Part
from persona_interp.traits.trait import Trait

FORMAT_VERSION = 1
AT_ONCE = 32
"""Answers handed to a judge together: what an interruption costs at most."""


@runtime_checkable
class Streaming(Protocol):
    """A judge that can give each judgement as soon as it has it, in any order, and what it has before it raises."""

    def judge_as_they_come(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Judgement]]:
        """(place, judgement) for every exchange."""
        ...


class CachedJudge:
    """A judge whose scores are kept in a file, under keys of all that they depend on.

    The key is made of what the judge says its scores depend on (its own settings, the weights or the address of its model, the
    trait's rubric or instructions), the question and the answer. So another judge, rubric or model never meets these scores, and
    one file serves many runs. Every score is on disk before the next are asked for: a judge that fails in the middle, or Ctrl-C,
    costs at most the 32 answers it had in hand, and nothing with a judge that gives its scores one by one (`EndpointJudge`).
    Scores that are None are kept too. Equal exchanges are judged once.

    Example:
        >>> judge = CachedJudge(EndpointJudge("gpt-4.1-mini"), "scores.jsonl")

    Args:
        judge: any judge.
        path: a file of JSON lines; made on the first score.
        at_once: answers handed to the judge together.

    Raises:
        FileFormatError: the file is damaged.
    """

    def __init__(self, judge: Judge, path: str | Path, *, at_once: int = AT_ONCE) -> None:
        self.inner = judge
        self.name = judge.name
        self.model = getattr(judge, "model", None)
        self.at_once = at_once
        self.path = Path(path)
        self._log = JsonlStore(self.path)
        self.n_asked = 0

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs; only those not in the file are put to the judge.

        Raises:
            InvalidInputError: the judge gave another number of judgements than it was asked for.
            PersonaInterpError: the disk is full; what was scored is kept.
        """
        self._log.refresh()  # others may have paid for some meanwhile
        shared = [FORMAT_VERSION, determinants(self.inner, trait)]
        keys = [content_key(*shared, question, answer) for question, answer in exchanges]
        waiting = list({key: each for key, each in zip(keys, exchanges, strict=True) if key not in self._log}.items())
        if not waiting:
            self.inner.judge(trait, [])  # one that does not know the trait says so all the same
        with track(len(waiting), f"{self.name}: scoring {trait.name}") as bar:
            at_once = max(1, len(waiting)) if isinstance(self.inner, Streaming) else self.at_once
            for start in range(0, len(waiting), at_once):
                part = waiting[start : start + at_once]
                for given in self._as_they_come(trait, [exchange for _, exchange in part]):
                    shown = {"judge": self.name, "judged": trait.name}
                    self._log.put_many({part[place][0]: {**shown, **_entry(judgement)} for place, judgement in given})
                    self.n_asked += len(given)
                    bar.advance(len(given))
        return [self._read(key) for key in keys]

    def determinants(self, trait: Trait) -> Any:
        """Those of the judge inside."""
        return determinants(self.inner, trait)

    def _as_they_come(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> Iterator[list[tuple[int, Judgement]]]:
        if isinstance(self.inner, Streaming):
            for place, judgement in self.inner.judge_as_they_come(trait, exchanges):
                yield [(place, judgement)]
        else:
            yield list(enumerate(one_each(self.inner, trait, exchanges)))

    def _read(self, key: str) -> Judgement:
        entry = self._log.get(key)
        try:
            trait, coherence = (None if entry[name] is None else float(entry[name]) for name in ("trait", "coherence"))
            return Judgement(trait, coherence, tuple(Part(**part) for part in entry.get("parts", ())))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"scores {self._log.path}: the entry {key} is damaged ({error!r}): delete that line, and it is scored again"
            ) from error


def _entry(judgement: Judgement) -> dict[str, Any]:
    """As JSON values; without parts where there are none, as it was before there were any."""
    entry = asdict(judgement)
    if not judgement.parts:
        del entry["parts"]
    return entry
