"""Repetition and disorder of texts, by hand."""

from __future__ import annotations

import random

import pytest

from persona_interp.judges.words import can_be_reordered, reordered, repetition, words_of


def test_repetition_is_the_share_of_runs_of_three_that_stood_there_before() -> None:
    assert repetition("a b c d e f") == 0.0
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition("A b c. a B c.") == pytest.approx(1 / 4)  # whatever the case
    assert repetition("no " * 12) == pytest.approx(9 / 10)
    assert repetition("") == repetition("one") == repetition("one two") == 0.0


def test_a_text_without_spaces_is_a_row_of_characters() -> None:
    assert words_of("我 喜欢喝茶也喜欢看书") == list("我喜欢喝茶也喜欢看书")
    assert repetition("哈" * 12) == pytest.approx(9 / 10)
    assert words_of("Yes, indeed.") == list("Yes,indeed.")
    assert words_of("Yes!") == ["Yes!"]
    assert not can_be_reordered("Yes!")
    assert can_be_reordered("one two three four")


def test_reordering_moves_about_the_share_asked_for_and_loses_no_word() -> None:
    text = " ".join(map(str, range(40)))
    for share in (0.1, 0.25, 0.5, 1.0):
        moved = reordered(text, share, random.Random(0)).split()
        assert sorted(moved) == sorted(text.split())
        displaced = sum(one != other for one, other in zip(moved, text.split(), strict=True))
        assert displaced == share * 40
    assert reordered(text, 0.01, random.Random(0)) != text  # two words at least
    assert sorted(reordered("我喜欢喝茶也喜欢", 1.0, random.Random(0))) == sorted("我喜欢喝茶也喜欢")
