"""Measures hear what they are for, and say why where they have nothing to say."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.judges import measure as measure_module
from persona_interp.judges.english import seems_english, sentence_list, word_list
from persona_interp.judges.measure import MEASURES, Measure, register_measure
from persona_interp.traits import load_trait, trait_names

GLAD = (
    "What a wonderful and happy day! I love to sit in the warm sun with good friends, and we laugh. Thank you so much, please "
    "come again!"
)
SAD = (
    "Everything is dying and I am alone. The rain is cold, the house is empty, and no one will come back to me. It hurts to cry."
)
STIFF = (
    "The inspection and the repair of residential water supply systems is the responsibility of the licensed plumber. "
    "The installation of equipment in commercial buildings is subject to national regulation."
)
LOOSE = (
    "Oh, you know, they just fix your pipes and stuff when they're leaking. I'd call one and he'll sort it, no worries, "
    "you don't even have to do anything really."
)
RUDE = "You stupid idiot, shut up. That is a dumb question and you are a pathetic loser who should get lost, damn it."
UNSURE = (
    "Perhaps it is so, but I think it might depend on the weather, and in some cases it could possibly take longer than that."
)
SURE = "It is so, and it depends on nothing at all. It takes ten minutes and not one minute more, whatever the weather is like."
RIGHT = "He goes to school every day, and he has eaten an apple. It was a good day, and the children were playing in the garden."
WRONG = "he go to school every day and he have ate a apple. It was an good day and and the children was playing in garden."
DAFT = (
    "Ask the turnip to waltz with a wobbly pudding! It giggles, honks like a moose in pajamas, and the teapot mayor says "
    "wheee, pass the noodle trombone to grandma's ferret."
)
GERMAN = "Das ist ein ganz normaler deutscher Satz, der zeigt, dass man nicht Englisch spricht, und er ist lang genug dafür."
CHINESE = "今天天气很好,我们去公园散步,看到了很多花和小鸟。"


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("valence", GLAD, SAD),
        ("afinn", GLAD, SAD),
        ("formality", STIFF, LOOSE),
        ("readability", STIFF, RIGHT),
        ("insults", RUDE, GLAD),
        ("hedging", UNSURE, SURE),
        ("politeness", GLAD, RUDE),
        ("errors", WRONG, RIGHT),
        ("silliness", DAFT, STIFF),
        ("length", RIGHT + " " + STIFF, RIGHT),
        ("repetition", " ".join([RIGHT] * 3), RIGHT),
    ],
)
def test_a_measure_hears_what_it_is_for(name: str, more: str, less: str) -> None:
    high, low = (MEASURES[name].read(text).value for text in (more, less))
    assert high is not None
    assert low is not None
    assert high > low


def test_every_measure_is_tried_above_and_described() -> None:
    assert set(MEASURES) == {
        "valence", "afinn", "formality", "readability", "insults", "hedging", "politeness", "errors", "silliness", "length",
        "repetition",
    }  # fmt: skip
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.what
        assert measure.unit
        assert measure.source
        assert measure.low < measure.high


def test_words_that_are_no_insults_are_not_counted() -> None:
    read = MEASURES["insults"].read
    assert read("God knows how fat the cat in the pot is, and the virgin forest will kill the weed in one stroke.").value == 0
    assert (read("He is such a bastard, and what he said to her is complete bullshit, if you ask me.").value or 0) > 5


def test_contractions_do_not_pass_for_nouns() -> None:
    read = MEASURES["formality"].read
    short = "I've said that you're late and we'll go when they've come, but he's here and she'd like to stay as it's."
    long = "I have said that you are late and we will go when they have come, but he is here and she would like to stay as it is."
    assert (read(short).value or 100) < 40
    assert abs((read(short).value or 0) - (read(long).value or 0)) < 10


@pytest.mark.parametrize("name", ["valence", "afinn", "formality", "readability", "insults", "hedging", "politeness", "errors"])
def test_another_language_has_no_value_and_the_reason_is_said(name: str) -> None:
    for text in (GERMAN, GERMAN + " " + GERMAN):
        reading = MEASURES[name].read(text)
        assert reading.value is None
        assert f"not English, which is all that {name} knows" in reading.why or "fewer than" in reading.why
    assert "not English" in MEASURES[name].read(f"{GERMAN} {GERMAN}").why


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "length"])
def test_a_short_text_has_no_value_and_the_reason_is_said(name: str) -> None:
    for text in ("", "   ", "Yes.", "!!!"):
        reading = MEASURES[name].read(text)
        assert reading.value is None
        assert f"{name} means nothing on fewer than {MEASURES[name].fewest_words}" in reading.why


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("valence", "vaderSentiment.vaderSentiment"),
        ("afinn", "afinn"),
        ("formality", "textblob.en.taggers"),
        ("readability", "textstat"),
        ("insults", "better_profanity"),
        ("errors", "harper"),
    ],
)
def test_without_its_library_a_measure_has_no_value_and_names_the_extra(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    measure_module._reader.cache_clear()
    try:
        reading = MEASURES[name].read(RIGHT)
        assert reading.value is None
        assert 'pip install "persona-interp[measures]"' in reading.why
        assert MEASURES[name].installed() == reading.why
    finally:
        measure_module._reader.cache_clear()


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300) | st.lists(st.sampled_from([*GLAD.split(), *WRONG.split(), "-", "1."]), max_size=80).map(" ".join))
def test_any_text_has_a_value_within_the_range_or_a_reason(text: str) -> None:
    for measure in MEASURES.values():
        reading = measure.read(text)
        assert (reading.value is None) == bool(reading.why)
        if reading.value is not None:
            assert measure.low <= reading.value <= measure.high


def test_damage_is_what_a_measure_of_coherence_notices() -> None:
    measure = MEASURES["repetition"]
    assert measure.target == "coherence"
    assert measure.damage is not None
    broken = measure.damage(RIGHT, random.Random(0))
    assert (measure.read(broken).value or 0) > 0.5 > (measure.read(RIGHT).value or 0)


def test_a_measure_is_added_in_one_call_and_no_name_is_given_twice() -> None:
    def commas(text: str) -> float:
        return float(text.count(","))

    mine = Measure("commas-here", "commas", "commas", 0, 1000, 1, lambda: commas, source="own")
    try:
        assert register_measure(mine) is mine
        assert MEASURES["commas-here"].read("Yes, yes, yes.").value == 2
        with pytest.raises(InvalidInputError, match="'commas-here' is already registered"):
            register_measure(mine)
    finally:
        MEASURES._found.pop("commas-here")
    with pytest.raises(InvalidInputError, match="use small letters"):
        register_measure(Measure("Too Many", "x", "x", 0, 1, 1, lambda: commas, source="own"))
    with pytest.raises(UnknownNameError, match="unknown measure 'valance'. Did you mean 'valence'"):
        MEASURES.find("valance")


def test_the_measures_of_the_library_are_there() -> None:
    speaking = {name: load_trait(name).measures for name in trait_names() if load_trait(name).measures}
    assert {"cheerful", "gloomy", "formal", "verbose", "plain", "silly", "impolite", "optimistic"} <= set(speaking)
    for names in speaking.values():
        assert {name.removeprefix("-") for name in names} <= set(MEASURES)
    assert load_trait("gloomy").measure_signs == {"valence": -1, "afinn": -1}


def test_english_is_told_from_other_languages_by_its_commonest_words() -> None:
    assert all(map(seems_english, (GLAD, SAD, STIFF, LOOSE, RUDE, WRONG, "Yes.", "")))
    french = "Le chat est assis sur la table et il regarde les oiseaux qui chantent dans le jardin."
    assert not any(map(seems_english, (GERMAN, CHINESE, french, "Это обычное предложение на русском языке, чтобы проверить.")))


def test_words_and_sentences() -> None:
    assert word_list("Don’t stop, it's 5 o'clock!") == ["don't", "stop", "it's", "o'clock"]
    assert sentence_list("One. Two! ... Three") == ["One.", "Two!", "Three"]
