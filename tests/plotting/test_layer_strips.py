"""A strip for every layer: each token in its place with its own values, and every layer on a scale centred on itself."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.monitoring.projection import ChatProjection, Projections, TurnProjection
from persona_interp.plotting.layer_strips import layer_strips_figure
from persona_interp.plotting.strip import strip_figure
from persona_interp.plotting.tokens import colour_range

LOW = (0.0, 1.0, 2.0, 3.0)
HIGH = (100.0, 90.0, 80.0, 210.0)


def turn(*rows: tuple[float, ...], tokens: tuple[str, ...] = ("<b>", "Hi", "\n", " you"), n_prompt: int = 3) -> TurnProjection:
    return TurnProjection("Hi?", "you", tuple(row[0] for row in rows), tuple(row[-1] for row in rows), tokens, n_prompt, rows)


def seen(*turns: TurnProjection, layers: tuple[int, ...] = (1, 3)) -> Projections:
    model = ModelIdentity("tiny", None, "f", max(layers) + 1, 8)
    return Projections("silly", model, layers, (2.0,) * len(layers), "activation", (ChatProjection("chat", turns),))


def strips(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


def test_every_token_has_its_values_at_every_layer_beneath_it() -> None:
    projections = seen(turn(LOW, HIGH), turn(LOW, HIGH))
    figure = layer_strips_figure(projections, projections.chats[0])
    drawn = strips(figure)
    assert len(drawn) == 4  # prompt and answer of two turns, a line each
    first = drawn[0]
    assert list(first.x) == [0, 4, 7, 9]  # the edges of three tokens
    (low, low_reach), (high, high_reach) = colour_range(projections, 0), colour_range(projections, 1)
    assert list(first.z[0]) == pytest.approx([(value - low) / low_reach for value in LOW[:3]])
    assert list(first.z[1]) == pytest.approx([(value - high) / high_reach for value in HIGH[:3]])
    assert list(first.customdata[1]) == [
        "&#x27;&lt;b&gt;&#x27;<br>layer 3: 100<br>prompt 1",
        "&#x27;Hi&#x27;<br>layer 3: 90<br>prompt 1",
        "&#x27;\\n&#x27;<br>layer 3: 80<br>prompt 1",
    ]
    words = [text for trace in figure.data if trace.type == "scatter" for text in trace.text]
    assert words == ["&lt;b&gt;", "Hi", "⏎", "\u00a0you"] * 2


def test_colours_are_centred_alike_above_and_below() -> None:
    figure = layer_strips_figure(seen(turn(LOW, HIGH)), seen(turn(LOW, HIGH)).chats[0])
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    assert figure.layout.coloraxis.colorscale[1][0] == 0.5
    assert {trace.coloraxis for trace in strips(figure)} == {"coloraxis"}


def test_lines_lie_apart_and_lower_layers_lie_lower() -> None:
    projections = seen(turn(LOW, HIGH), turn(LOW, HIGH))
    figure = layer_strips_figure(projections, projections.chats[0])
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # down the page
    spans = [(min(trace.y), max(trace.y)) for trace in strips(figure)]
    assert all(above[1] < below[0] for above, below in itertools.pairwise(spans))
    assert all(trace.y[0] > trace.y[-1] for trace in strips(figure))
    at = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert at["1"] > at["3"]


def test_many_layers_keep_labels_that_do_not_touch() -> None:
    layers = tuple(range(64))
    projections = seen(turn(*[LOW] * 64), layers=layers)
    axis = layer_strips_figure(projections, projections.chats[0]).layout.yaxis
    places = sorted(axis.tickvals)
    assert min(below - above for above, below in itertools.pairwise(places)) >= 12
    assert "0" in axis.ticktext


def test_some_layers_can_be_chosen_and_agree_with_the_strip_of_one() -> None:
    projections = seen(turn(LOW, HIGH))
    chat = projections.chats[0]
    (prompt, answer) = strips(layer_strips_figure(projections, chat, [3]))
    one = strip_figure(projections, chat, 3).data[0]
    assert [*prompt.customdata[0], *answer.customdata[0]] == list(one.customdata)
    centre, reach = colour_range(projections, 1)
    assert [value * reach + centre for value in (*prompt.z[0], *answer.z[0])] == pytest.approx(list(one.marker.color))


def test_what_was_not_read_cannot_be_drawn() -> None:
    projections = seen(turn(LOW, HIGH))
    with pytest.raises(InvalidInputError, match="layer 2 was not read"):
        layer_strips_figure(projections, projections.chats[0], [1, 2])
    with pytest.raises(InvalidInputError, match="no layer was given"):
        layer_strips_figure(projections, projections.chats[0], [])
    bare = seen(TurnProjection("Hi?", "a", (0.0, 0.0), (0.0, 0.0)), turn(LOW, HIGH))
    assert layer_strips_figure(bare, bare.chats[0]).data
    empty = ChatProjection("empty", bare.chats[0].turns[:1])
    with pytest.raises(InvalidInputError, match="without its tokens"):
        layer_strips_figure(bare, empty)
