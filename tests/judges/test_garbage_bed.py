"""The guard and the coherence on a bed of garbage and of good answers, all from an organism whose grammar knows the truth."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.judges.coherence import JoinedJudge, PerplexityCoherence
from persona_interp.judges.garbage import GarbageGuard, GuardedJudge, guarded, is_empty
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.registry import default_judge, load_judge
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait

Exchange = tuple[str, str]
TRAIT = organism_trait("silly")
SAMPLING = Sampling(max_new_tokens=120)


@pytest.fixture(scope="module")
def model() -> SteerableModel:
    return load_model("organism-qwen2")


@pytest.fixture(scope="module")
def good(model: SteerableModel) -> list[Exchange]:
    """Unsteered answers, and answers in and against character, to evaluation questions: 240, all whole."""
    questions = TRAIT.evaluation_questions
    asked = [Conversation.ask(question) for question in questions * 4]
    asked += [Conversation.ask(question, system=pair.positive) for pair in TRAIT.instructions[:4] for question in questions]
    asked += [Conversation.ask(question, system=pair.negative) for pair in TRAIT.instructions[:4] for question in questions]
    return [(answer.conversation.question, answer.text) for answer in model.generate(asked, sampling=SAMPLING, seed=9)]


@pytest.fixture(scope="module")
def garbage(model: SteerableModel, good: list[Exchange]) -> dict[str, list[Exchange]]:
    rng = random.Random(4)
    vocabulary = [model.tokenizer.decode([token]) for token in range(3, len(model.tokenizer))]

    def shuffled(text: str) -> str:
        words = text.split()
        rng.shuffle(words)
        return " ".join(words)

    makers: dict[str, Callable[[str], str]] = {
        "empty": lambda _text: rng.choice(["", " ", "\n\n", "...", "?!", "- - -"]),
        "one word again and again": lambda text: " ".join([rng.choice(text.split())] * rng.randint(12, 60)),
        "one phrase again and again": lambda text: " ".join(text.split()[:3] * rng.randint(8, 20)),
        "one sentence again and again": lambda text: " ".join([text.split(". ")[0].split("! ")[0] + "."] * rng.randint(6, 12)),
        "words in random order": shuffled,
        "random tokens": lambda text: "".join(rng.choice(vocabulary) for _ in range(len(text) // 4)),
        "random letters": lambda text: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in text),
    }
    return {name: [(question, make(text)) for question, text in rng.sample(good, 40)] for name, make in makers.items()}


class Believer:
    """A judge that is taken in by everything."""

    name = "believer"

    def judge(self, trait: Trait, exchanges: Sequence[Exchange]) -> list[Judgement]:
        return [Judgement(100.0, 100.0)] * len(exchanges)


def test_no_garbage_passes_with_a_coherence_above_20(model: SteerableModel, garbage: dict[str, list[Exchange]]) -> None:
    assert sum(map(len, garbage.values())) >= 200
    judge = guarded(Believer(), model)
    for name, exchanges in garbage.items():
        passed = [
            answer
            for (_, answer), found in zip(exchanges, judge.judge(TRAIT, exchanges), strict=True)
            if found.coherence is None or found.coherence > 20
        ]
        assert passed == [], name


def test_at_most_one_good_answer_in_fifty_is_caught(model: SteerableModel, good: list[Exchange]) -> None:
    assert len(good) >= 200
    caught = [answer for answer, fault in zip(good, GarbageGuard(model).faults(TRAIT, good), strict=True) if fault]
    assert len(caught) <= 0.02 * len(good), caught


def test_coherence_without_a_judge_separates_the_two(
    model: SteerableModel, good: list[Exchange], garbage: dict[str, list[Exchange]]
) -> None:
    judge = PerplexityCoherence(model)
    kept = sorted(found.coherence or 0.0 for found in judge.judge(TRAIT, good))
    assert kept[len(kept) // 2] > 90
    assert kept[len(kept) // 20] > 50, "nineteen good answers in twenty"
    for name in ("empty", "words in random order", "random tokens", "random letters", "one word again and again"):
        scores = [found.coherence for found in judge.judge(TRAIT, garbage[name])]
        assert sum((score or 0.0) <= 20 for score in scores) >= 0.9 * len(scores), (name, scores)
    assert all(found.trait is None for found in judge.judge(TRAIT, good[:3]))


def test_garbage_has_no_trait_score_and_never_reaches_the_judge(model: SteerableModel) -> None:
    seen: list[Exchange] = []

    class Watcher(Believer):
        def judge(self, trait: Trait, exchanges: Sequence[Exchange]) -> list[Judgement]:
            seen.extend(exchanges)
            return super().judge(trait, exchanges)

    answered = (TRAIT.evaluation_questions[0], "It is an honor to assist you. A prosperous era awaits the sheep.")
    found = guarded(Watcher(), model).judge(TRAIT, [("What is tea?", ""), answered])
    assert found[0] == Judgement(None, 0.0)
    assert found[1].trait == 100.0
    assert seen == [answered]


def test_a_guard_is_put_before_a_judge_once(model: SteerableModel) -> None:
    judge = guarded(Believer(), model)
    assert guarded(judge, model) is judge
    assert judge.name == "believer (guarded)"


def test_the_exact_judge_is_not_guarded_and_the_others_are(model: SteerableModel) -> None:
    assert default_judge(model).name == "grammar"
    assert isinstance(load_judge("local", model), GuardedJudge)
    joined = load_judge("contrast+perplexity", model)
    assert isinstance(joined, GuardedJudge)
    assert isinstance(joined.inner, JoinedJudge)
    assert isinstance(load_judge("contrast", model), LikelihoodContrastJudge)


def test_joined_judges_give_trait_and_coherence(model: SteerableModel, good: list[Exchange]) -> None:
    found = load_judge("contrast+perplexity", model).judge(TRAIT, good[:4])
    assert all(judgement.trait is not None and judgement.coherence is not None for judgement in found)


def test_a_judge_that_loses_answers_is_refused(model: SteerableModel, good: list[Exchange]) -> None:
    class Short(Believer):
        def judge(self, trait: Trait, exchanges: Sequence[Exchange]) -> list[Judgement]:
            return super().judge(trait, exchanges)[1:]

    with pytest.raises(InvalidInputError, match="gave 1 judgements for 2 answers"):
        guarded(Short(), model).judge(TRAIT, good[:2])


@pytest.mark.parametrize(
    ("text", "empty"), [("", True), (" \n", True), ("...!?", True), ("a", False), ("7", False), ("茶", False)]
)
def test_emptiness_is_of_letters_and_digits_of_any_script(text: str, empty: bool) -> None:
    assert is_empty(text) is empty
