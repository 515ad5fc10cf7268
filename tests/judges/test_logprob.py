"""The logprob judge against numbers worked out by hand, for tokenizers of digits and of whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.judges.logprob import LogprobJudge, expected_number
from persona_interp.judges.numerals import NUMBERS, NumberTree
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait

END = {"<|im_end|>": 1.0}
DIGITS: dict[str, dict[str, float]] = {
    "": {"8": 0.6, "1": 0.3, "R": 0.1},
    "8": {"5": 0.5, ".": 0.25, "<|im_end|>": 0.25},
    "1": {"0": 1.0},
    "10": {"0": 0.5, "<|im_end|>": 0.5},
    "85": {"0": 0.2, "<|im_end|>": 0.8},
}
# 85: .6*.5*.8 = .24 (850 is no score) · 8: .6*.5 = .30 · 10: .3*.5 = .15 · 100: .3*.5 = .15
DIGITS_SCORE = (85 * 0.24 + 8 * 0.30 + 10 * 0.15 + 100 * 0.15) / 0.84


def follow(table: Mapping[str, Mapping[str, float]]) -> Callable[[str, str], Mapping[str, float]]:
    return lambda _asked, written: table.get(written, END)


def test_digits_one_at_a_time_score_the_whole_number(planted: Any, trait: Trait) -> None:
    judge = LogprobJudge(planted(follow(DIGITS)), coherence_rubric=None)
    (judgement,) = judge.judge(trait, [("q", "a")])
    assert judgement.trait == pytest.approx(DIGITS_SCORE, abs=1e-5)  # the first digit alone would have said 5.7
    assert judgement.coherence is None
    assert judge.name == "local:planted"


def test_probability_of_each_number_is_exact(planted: Any) -> None:
    model = planted(follow(DIGITS))
    prompts = [model.chat.prompt_ids(Conversation.ask("how much?"))]
    (numbers,) = NumberTree(model.tokenizer, tolerance=0).probabilities(prompts, model)
    known = {number: p for number, p in numbers.items() if p > 1e-9}
    assert known == {85: pytest.approx(0.24), 8: pytest.approx(0.3), 10: pytest.approx(0.15), 100: pytest.approx(0.15)}


def test_tokens_of_whole_numbers(planted: Any, trait: Trait) -> None:
    plan = follow({"": {"85": 0.5, "0": 0.2, "R": 0.3}})
    judge = LogprobJudge(planted(plan, whole_numbers=True), coherence_rubric=None)
    (judgement,) = judge.judge(trait, [("q", "a")])
    assert judgement.trait == pytest.approx((85 * 0.5 + 0 * 0.2) / 0.7, abs=1e-5)


def test_one_number_spelt_in_two_ways_counts_once_for_each(planted: Any) -> None:
    table = {"": {"85": 0.5, "8": 0.25, "10": 0.25}, "8": {"5": 1.0}, "10": {"0": 1.0}}
    model = planted(follow(table), whole_numbers=True)
    prompts = [model.chat.prompt_ids(Conversation.ask("how much?"))]
    (numbers,) = NumberTree(model.tokenizer).probabilities(prompts, model)
    assert {number: p for number, p in numbers.items() if p > 1e-9} == {85: pytest.approx(0.75), 100: pytest.approx(0.25)}


@pytest.mark.parametrize("space", ["Ġ", "Ċ"])
def test_white_space_before_the_number_is_walked_through(planted: Any, trait: Trait, space: str) -> None:
    spaces = {"Ġ": " ", "Ċ": "\n"}[space]
    table = {"": {space: 0.5, "R": 0.5}, spaces: {"7": 1.0}, f"{spaces}7": {space: 1.0}}
    (judgement,) = LogprobJudge(planted(follow(table)), coherence_rubric=None).judge(trait, [("q", "a")])
    assert judgement.trait == pytest.approx(7.0, abs=1e-4)


@pytest.mark.parametrize(("mass", "score"), [(0.2, None), (0.3, 100.0)])
def test_refusal_gives_no_score(planted: Any, trait: Trait, mass: float, score: float | None) -> None:
    plan = follow({"": {"100": mass, "R": 1 - mass}})
    (judgement,) = LogprobJudge(planted(plan, whole_numbers=True)).judge(trait, [("q", "a")])
    assert judgement.trait == judgement.coherence == (None if score is None else pytest.approx(score))


def test_trait_and_coherence_are_asked_apart_and_rows_keep_their_order(planted: Any, trait: Trait) -> None:
    def plan(asked: str, written: str) -> Mapping[str, float]:
        if written:
            return END
        if "coherent" in asked:
            return {"9": 1.0}
        return {"3": 1.0} if "long answer" in asked else {"4": 1.0}

    exchanges = [("q", "a long answer " * 20), ("q", "short"), ("q", "a long answer"), ("{answer}", "x {question}")]
    expected = [3.0, 4.0, 3.0, 4.0]
    for batch_size in (1, 3, 8):
        found = LogprobJudge(planted(plan), batch_size=batch_size).judge(trait, exchanges)
        assert [judgement.trait for judgement in found] == pytest.approx(expected)
        assert [judgement.coherence for judgement in found] == pytest.approx([9.0] * 4)
    assert LogprobJudge(planted(plan)).judge(trait, []) == []


def test_tolerance_saves_forwards_and_bounds_the_error(planted: Any, trait: Trait) -> None:
    table = {"": {"9": 0.99, **{str(digit): 0.01 / 9 for digit in range(9)}}, "9": {"5": 0.95, "0": 0.05}}
    exact, quick = planted(follow(table)), planted(follow(table))
    (full,) = LogprobJudge(exact, tolerance=0, coherence_rubric=None).judge(trait, [("q", "a")])
    (rough,) = LogprobJudge(quick, tolerance=0.01, coherence_rubric=None).judge(trait, [("q", "a")])
    assert quick.n_forwards < exact.n_forwards
    assert full.trait == pytest.approx(rough.trait, abs=1.0)


def test_a_real_model_agrees_with_its_own_distribution(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("gpt2")
    prompt = model.chat.prompt_ids(Conversation.ask("rate the answer from 0 to 100"))
    (numbers,) = NumberTree(model.tokenizer, tolerance=0).probabilities([prompt], model)
    assert {str(number) for number in numbers} <= NUMBERS
    # an upper bound that needs no tree: the first token holds a digit or is a space
    first = torch.softmax(model.next_token_logits([prompt])[0], dim=-1)
    opens = [i for token, i in model.tokenizer.get_vocab().items() if token.strip("ĠĊĉ").isdigit() or not token.strip("ĠĊĉ")]
    assert 0 < sum(numbers.values()) <= float(first[opens].sum()) + 1e-5
    # one number by the definition: a digit, then anything but a digit
    digit = model.tokenizer.convert_tokens_to_ids("7")
    after = torch.softmax(model.next_token_logits([[*prompt, digit]])[0], dim=-1)
    goes_on = [index for token, index in model.tokenizer.get_vocab().items() if token[0].isdigit() and token[0].isascii()]
    direct = float(first[digit]) * (1 - float(after[goes_on].sum()))
    assert direct <= numbers[7] + 1e-6
    spaced = [numbers[7] - direct]  # what is left came through leading white space
    assert spaced[0] <= float(first[opens].sum())


def test_expected_number_is_the_papers_weighted_mean() -> None:
    assert expected_number({0: 0.5, 100: 0.25}) == pytest.approx(100 / 3)
    assert expected_number({50: 0.2}) is None
    assert expected_number({}) is None


def test_bad_settings_are_refused(planted: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"coherence rubric does not contain \{answer\}"):
        LogprobJudge(planted(follow({})), coherence_rubric="{question}")
    with pytest.raises(InvalidInputError, match="min_mass is 0: give a probability above 0"):
        LogprobJudge(planted(follow({})), min_mass=0)
