"""Figures of conversations: drift as it was measured, and every token in its place with its own value."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.monitoring.projection import ChatProjection, Projections, TurnProjection
from persona_interp.plotting.strip import drift_figure, strip_figure

MODEL = ModelIdentity("tiny", None, "f", 4, 8)


def turn(answer: float | None, tokens: tuple[str, ...] = ("<b>", "Hi", "\n", " you"), n_prompt: int = 3) -> TurnProjection:
    values = tuple(float(place) for place in range(len(tokens)))
    mean = None if answer is None else (0.0, answer)
    return TurnProjection("Hi?", None if answer is None else "<i>you", (0.0, 5.0), mean, tokens, n_prompt, (values, values))


def seen(*turns: TurnProjection) -> Projections:
    return Projections("silly", MODEL, (1, 3), (2.0, 2.0), "activation", (ChatProjection("chat", turns),))


def test_drift_shows_values_as_they_are_and_leaves_gaps() -> None:
    figure = drift_figure(seen(turn(2.0), turn(4.0), turn(None)), 3)
    answers, prompts = figure.data
    assert list(answers.y) == [2.0, 4.0, None]
    assert list(prompts.y) == [5.0, 5.0, 5.0]
    assert list(answers.x) == [1, 2, 3]
    assert answers.line.dash != prompts.line.dash
    assert "activation units" in figure.layout.yaxis.title.text
    assert "layer 3" in figure.layout.title.text


def test_every_token_is_drawn_once_with_its_value_and_escaped() -> None:
    projections = seen(turn(2.0), turn(3.0, ("x" * 60, "y" * 60), 1))
    figure = strip_figure(projections, projections.chats[0], 3)
    (bars,) = figure.data
    assert list(bars.marker.color) == [0.0, 1.0, 2.0, 3.0, 0.0, 1.0]
    assert bars.text[0] == "&lt;b&gt;"
    assert bars.text[2] == "⏎"
    assert bars.customdata[0] == "&#x27;&lt;b&gt;&#x27;<br>layer 3: 0<br>prompt 1"
    assert [text.rpartition("<br>")[2] for text in bars.customdata] == ["prompt 1"] * 3 + ["answer 1", "prompt 2", "answer 2"]
    places = list(zip(bars.y, bars.base, strict=True))
    assert len(set(places)) == len(places)  # no token hides another
    assert list(figure.layout.yaxis.ticktext) == ["prompt 1", "answer 1", "prompt 2", "answer 2"]


def test_long_lines_break_and_huge_tokens_are_cut_in_the_figure_alone() -> None:
    long = "z" * 300
    projections = seen(turn(1.0, (*["word"] * 50, long), 0))
    (bars,) = strip_figure(projections, projections.chats[0], 1).data
    assert max(base + width for base, width in zip(bars.base, bars.x, strict=True)) <= 97
    assert max(bars.y) >= 3
    assert long in bars.customdata[-1]


def test_colours_are_the_same_in_every_strip_and_one_odd_token_does_not_bleach_them() -> None:
    ordinary = turn(1.0, tuple("abcdefghij" * 20), 0)
    odd = TurnProjection("Hi?", "a", (0.0, 0.0), (0.0, 0.0), ("a",), 0, ((1e6,), (1e6,)))
    chats = (ChatProjection("one", (ordinary,)), ChatProjection("two", (odd,)))
    projections = Projections("silly", MODEL, (1, 3), (2.0, 2.0), "activation", chats)
    markers = [strip_figure(projections, chat, 1).data[0].marker for chat in chats]
    assert (markers[0].cmin, markers[0].cmax) == (markers[1].cmin, markers[1].cmax)
    assert markers[0].cmax < 1000


def test_what_was_not_read_cannot_be_drawn() -> None:
    projections = seen(turn(1.0))
    with pytest.raises(InvalidInputError, match="layer 2 was not read"):
        drift_figure(projections, 2)
    bare = seen(TurnProjection("Hi?", "a", (0.0, 0.0), (0.0, 0.0)))
    with pytest.raises(InvalidInputError, match="without its tokens"):
        strip_figure(bare, bare.chats[0], 1)


def test_several_conversations_stand_below_each_other_under_their_names() -> None:
    chats = tuple(ChatProjection(name, (turn(2.0),)) for name in ("plain", "<silly>"))
    projections = Projections("silly", MODEL, (1, 3), (2.0, 2.0), "activation", chats)
    figure = strip_figure(projections, chats, 3)
    (bars,) = figure.data
    assert list(bars.marker.color) == [0.0, 1.0, 2.0, 3.0] * 2
    names = {each.text: each.y for each in figure.layout.annotations}
    first, second = names["<b>plain</b>"], names["<b>&lt;silly&gt;</b>"]
    assert first < min(bars.y[:4]) <= max(bars.y[:4]) < second < min(bars.y[4:])


def test_no_conversation_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no conversation"):
        strip_figure(seen(turn(2.0)), [], 3)
