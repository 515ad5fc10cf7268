"""What the page shows: escaped, complete without colour, and the layer that is meant."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from persona_interp.demo import notices
from persona_interp.demo.comparison import Answer, Comparison
from persona_interp.demo.dose_scale import dose_scale
from persona_interp.demo.jobs import Progress
from persona_interp.demo.layer_heat import LayerHeat, best_layer
from persona_interp.demo.talk import Talk
from persona_interp.demo.talk_shown import talk_html
from persona_interp.demo.token_strip import card, colour, columns, scale, strips
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Part

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def tags(html: str) -> set[str]:
    return set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", html))


def test_what_models_and_people_wrote_is_never_html() -> None:
    answer = Answer(HOSTILE, (HOSTILE, "b"), (1.0,), False, 10.0, 20.0)
    found = Comparison(answer, answer, judge="grammar")
    talk = Talk("m").with_turn(HOSTILE, found)
    for html in (
        card(answer, title=HOSTILE, trait=HOSTILE, note=HOSTILE),
        strips(found, titles=[HOSTILE, HOSTILE], trait=HOSTILE, layer=3),
        talk_html(talk, HOSTILE),
        notices.working(Progress(HOSTILE, 0.5, (HOSTILE,))),
        notices.done(HOSTILE, (HOSTILE,)),
        notices.failed(HOSTILE),
        notices.told(HOSTILE),
    ):
        assert "img" not in tags(html)
        assert "onerror=alert" in unescape(html).replace("\u00a0", " ")


def test_every_token_stands_over_its_number_and_the_last_over_a_dash() -> None:
    answer = Answer("a b c", ("a", " b", " c"), (1.04, -2.0))
    html = strips(Comparison(answer, answer), titles=["Baseline", "Steered"], trait="silly", layer=3)
    assert re.findall(r"<small>(.*?)</small>", html) == ["1.0", "-2.0", "–"] * 2
    assert strips(Comparison(), titles=["Baseline", "Steered"], trait="silly", layer=3) == ""


def test_colours_are_centred_between_the_answers_whatever_their_length() -> None:
    short, long = Answer(values=(0.0, 0.0)), Answer(values=(10.0,) * 50)
    scaled = scale([short, long])
    assert scaled is not None
    assert scaled[0] == 5.0
    assert colour(0.0, *scaled) != colour(10.0, *scaled)
    assert colour(5.0, *scaled) == colour(1.0, 1.0, 3.0)  # white
    assert colour(99.0, *scaled) == colour(10.0 + scaled[1], *scaled)
    assert scale([Answer(values=(1.0,)), Answer()]) is None


def test_states_of_an_answer_are_said_in_words() -> None:
    assert "waiting" in card(Answer(), title="Baseline", trait="", running=True)
    assert "writing" in card(Answer("a"), title="Baseline", trait="", running=True)
    assert "cut off" in card(Answer("a", finished=False), title="Baseline", trait="")
    assert "silly 83" in card(Answer("a", finished=True, trait=83.3), title="Baseline", trait="silly")


def heat(model: SteerableModel, vector: Any, chosen: int | None = None) -> list[dict[str, str]]:
    html = LayerHeat.of(model, vector, chosen).html()
    return [dict(re.findall(r'([a-z-]+)="([^"]*)"', button)) for button in re.findall(r"<button[^>]*>", html)]


def test_the_heatmap_is_a_group_of_radio_buttons_with_the_scores_in_words(model: SteerableModel, random_vector: Any) -> None:
    scores = tuple(0.1 * layer for layer in range(model.n_layers))
    vector = random_vector(model)
    vector = replace(vector, statistics={**vector.statistics, "effectiveness": scores})
    buttons = heat(model, vector)
    assert [button["data-layer"] for button in buttons] == [str(layer) for layer in range(model.n_layers)]
    assert buttons[3]["aria-label"] == "layer 3, score 0.3"
    assert buttons[-1]["aria-label"].endswith("best")
    assert [button["aria-checked"] for button in buttons].index("true") == model.n_layers - 1 == best_layer(model, vector)
    assert [button["tabindex"] for button in buttons].count("0") == 1
    assert len({button["style"] for button in buttons}) == model.n_layers
    assert heat(model, vector, 2)[2]["aria-checked"] == "true"
    assert "no score" in heat(model, None)[0]["aria-label"]
    assert "true" not in [button["aria-checked"] for button in heat(model, None)]


def test_layers_where_a_model_or_vector_has_nothing_cannot_be_pressed(
    model: SteerableModel, random_vector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = LayerHeat.of(model, random_vector(model).select([2, 3]), None).html()
    assert html.count(" disabled>") == model.n_layers - 2
    monkeypatch.setattr(type(model), "first_steerable_layer", 1)
    html = LayerHeat.of(model, random_vector(model), 0).html()
    assert html.count(" disabled>") == 1
    assert best_layer(model, random_vector(model).select([0])) == 0


def test_several_judges_give_a_column_each_and_say_why_there_is_no_score() -> None:
    parts = (Part("contrast", 40.0), Part(HOSTILE, None, why=HOSTILE))
    answer = Answer("a", ("a",), (), True, 40.0, 90.0, parts)
    html = columns(Comparison(answer, replace(answer, parts=parts[:1])), titles=["Baseline", HOSTILE], trait="silly")
    assert html.count("<tr>") == 3
    assert html.count("<th>") == 5 + 2
    assert html.count("<td>40</td>") == 4
    assert "img" not in tags(html)
    assert columns(Comparison(replace(answer, parts=())), titles=["Baseline", "Steered"], trait="silly") == ""


def test_the_scale_of_doses_shows_the_measured_range_or_says_that_it_is_the_usual_one(
    model: SteerableModel, random_vector: Any
) -> None:
    vector = random_vector(model)
    assert "Usually usable up to 0.5" in dose_scale(vector)
    measured = replace(vector, provenance={"page": {"usable": {"layer": 4, "low": -0.2, "high": 0.6}}})
    html = dose_scale(measured)
    assert "Usable from -0.20 to +0.60" in html
    assert "left:40.0%;width:40.0%" in html
    assert "Usually" in dose_scale(replace(vector, provenance={"page": {"usable": {}}}))


def test_a_large_model_has_as_many_cells_as_layers_and_each_says_what_it_is(model: SteerableModel) -> None:
    cells = re.findall(r"<button[^>]*>[^<]*", LayerHeat(80, 0, None, None).html())
    assert [int(re.findall(r">(\d+)", cell)[0]) for cell in cells] == list(range(80))
    assert "no score" in cells[79]
