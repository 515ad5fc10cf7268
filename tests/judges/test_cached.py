"""Scores that are kept: what was scored once is never scored again, and nothing is mistaken for anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, UnknownNameError
from persona_interp.judges.cached import CachedJudge
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait

EXCHANGES = [("What is tea?", f"answer {number}") for number in range(10)]


class Counting:
    """Scores by length, remembers what it was asked, and gives up once it has seen `breaks_at` answers."""

    def __init__(self, name: str = "counting", breaks_at: int | None = None) -> None:
        self.name = name
        self.breaks_at = breaks_at
        self.asked: list[str] = []

    def score(self, answer: str) -> Judgement:
        if len(self.asked) == self.breaks_at:
            raise ConnectionError("the judge has gone")
        self.asked.append(answer)
        return Judgement(None if "9" in answer else float(len(answer)), None)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        del trait
        return [self.score(answer) for _, answer in exchanges]


class CountingOneByOne(Counting):
    """The same, from the last to the first, each as soon as it is there."""

    def judge_as_they_come(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Judgement]]:
        del trait
        for place in reversed(range(len(exchanges))):
            yield place, self.score(exchanges[place][1])


def test_what_is_kept_is_not_asked_for_again(trait: Trait, tmp_path: Path) -> None:
    first = CachedJudge(Counting(), tmp_path / "deep" / "scores.jsonl")
    assert isinstance(first, Judge)
    assert first.judge(trait, EXCHANGES) == Counting().judge(trait, EXCHANGES)
    inner = Counting()
    second = CachedJudge(inner, tmp_path / "deep" / "scores.jsonl")
    assert second.judge(trait, [*EXCHANGES[::-1], ("What is tea?", "new")])[:10] == first.judge(trait, EXCHANGES)[::-1]
    assert inner.asked == ["new"]  # a score that is None is a score: it is not asked for again either
    assert second.n_asked == 1


def test_equal_exchanges_are_judged_once(trait: Trait, tmp_path: Path) -> None:
    inner = Counting()
    found = CachedJudge(inner, tmp_path / "scores.jsonl").judge(trait, [EXCHANGES[0]] * 5)
    assert len(found) == 5
    assert len(inner.asked) == 1


@pytest.mark.parametrize(("kind", "kept"), [(Counting, 6), (CountingOneByOne, 7)])
def test_a_judge_that_fails_in_the_middle_loses_nothing_it_gave(
    trait: Trait, tmp_path: Path, kind: type[Counting], kept: int
) -> None:
    """In threes, the seventh answer is lost with its three; a judge that gives them one by one loses none."""
    path = tmp_path / "scores.jsonl"
    with pytest.raises(ConnectionError, match="has gone"):
        CachedJudge(kind(breaks_at=7), path, at_once=3).judge(trait, EXCHANGES)
    again = kind()
    assert CachedJudge(again, path, at_once=3).judge(trait, EXCHANGES) == Counting().judge(trait, EXCHANGES)
    assert len(again.asked) == len(EXCHANGES) - kept


def test_another_judge_rubric_instruction_question_or_answer_is_another_score(trait: Trait, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    CachedJudge(Counting(), path).judge(trait, [("q", "a")])
    pairs = (dataclasses.replace(trait.instructions[0], positive="Be very silly."), *trait.instructions[1:])
    others: list[tuple[str, Trait, tuple[str, str]]] = [
        ("other", trait, ("q", "a")),
        ("counting", dataclasses.replace(trait, rubric="Rate {question} {answer}"), ("q", "a")),
        ("counting", dataclasses.replace(trait, instructions=pairs), ("q", "a")),
        ("counting", trait, ("q2", "a")),
        ("counting", trait, ("q", "a2")),
    ]
    for name, judged, exchange in others:
        inner = Counting(name)
        CachedJudge(inner, path).judge(judged, [exchange])
        assert len(inner.asked) == 1


def test_a_judge_says_itself_what_its_scores_depend_on(trait: Trait, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    polite = dataclasses.replace(trait, rubric="unused {question} {answer}")
    for judged in (trait, polite):  # the grammar's scores depend on the trait's name alone
        judge = CachedJudge(GrammarJudge(), path)
        judge.judge(judged, [("What is a cat?", "Nonsense.")])
    assert judge.n_asked == 0


def test_a_judge_that_does_not_know_the_trait_says_so_with_nothing_to_score(trait: Trait, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown trait of the grammar judge 'evil'"):
        CachedJudge(GrammarJudge(), tmp_path / "s.jsonl").judge(dataclasses.replace(trait, name="evil"), [])


def test_a_judge_that_gives_too_few_is_refused(trait: Trait, tmp_path: Path) -> None:
    class Lazy(Counting):
        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            return super().judge(trait, exchanges)[1:]

    with pytest.raises(InvalidInputError, match="'counting' gave 9 judgements for 10 answers: one each is needed"):
        CachedJudge(Lazy(), tmp_path / "s.jsonl").judge(trait, EXCHANGES)


@pytest.mark.parametrize("damage", ['"trait": "high"', '"trait": 700', '"other": 1'])
def test_a_damaged_score_names_its_line_and_the_remedy(trait: Trait, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "scores.jsonl"
    CachedJudge(Counting(), path).judge(trait, EXCHANGES[:1])
    path.write_text(path.read_text().replace('"trait": 8.0', damage))
    with pytest.raises(FileFormatError, match="is damaged .*delete that line, and it is scored again"):
        CachedJudge(Counting(), path).judge(trait, EXCHANGES[:1])
