"""The traits that ship with the package keep the promises made about their texts."""

from __future__ import annotations

import itertools
import re

import pytest

from persona_interp.traits import Trait, load_trait, trait_names

NAMES = (
    "apathetic", "cheerful", "evil", "formal", "gloomy", "hallucinating", "honest", "humorous", "impolite", "optimistic", "plain",
    "silly", "sycophantic", "verbose",
)  # fmt: skip

# Words that say nothing about the topic; two questions sharing only these are not alike.
FUNCTION_WORDS = (
    "a about an and are as at be by can could did do does for from had has have he her his how i if in is it me my no not of "
    "on one or our she should so that the their them they this to was we were what when where which who why will with would "
    "you your tell please"
)


def content_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower())) - frozenset(FUNCTION_WORDS.split())


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / max(1, len(first | second))


@pytest.fixture(params=NAMES)
def trait(request: pytest.FixtureRequest) -> Trait:
    return load_trait(request.param)


def test_the_library_holds_the_fourteen_traits() -> None:
    assert tuple(name for name, origin in trait_names().items() if origin == "library") == NAMES


def test_each_trait_has_twenty_questions_for_extraction_and_twenty_others_for_evaluation(trait: Trait) -> None:
    assert len(trait.extraction_questions) == len(trait.evaluation_questions) == 20
    assert not set(trait.extraction_questions) & set(trait.evaluation_questions)
    assert len({*trait.extraction_questions, *trait.evaluation_questions}) == 40


def test_instructions_are_two_to_four_sentences_and_contrast(trait: Trait) -> None:
    for pair in trait.instructions:
        for text in (pair.positive, pair.negative):
            assert 2 <= len(re.findall(r"[.!?](?=\s|$)", text)) <= 4
        assert pair.positive != pair.negative
        # Pairs may mirror each other in form, which takes length and style out of the difference, but must not be one text.
        assert overlap(content_words(pair.positive), content_words(pair.negative)) < 0.7


def test_both_sides_of_a_pair_are_about_as_long(trait: Trait) -> None:
    for pair in trait.instructions:
        assert 0.65 < len(pair.positive) / len(pair.negative) < 1.5


def test_no_two_instructions_of_a_sign_say_the_same(trait: Trait) -> None:
    for side in ("positive", "negative"):
        texts = [content_words(getattr(pair, side)) for pair in trait.instructions]
        assert max(overlap(a, b) for a, b in itertools.combinations(texts, 2)) < 0.3


def test_questions_do_not_name_the_trait(trait: Trait) -> None:
    # "honest" stays recognisable in "honestly"; other stems are cut where the word changes.
    stem = {"apathetic": "apath", "hallucinating": "hallucinat", "humorous": "humor", "optimistic": "optimis"}.get(
        trait.name, trait.name
    )
    naming = [
        question
        for question in (*trait.extraction_questions, *trait.evaluation_questions)
        if re.search(rf"\b{stem}", question.lower())
    ]
    assert not naming


def test_no_question_of_the_whole_library_resembles_another() -> None:
    questions = [
        (name, question)
        for name in NAMES
        for question in (*load_trait(name).extraction_questions, *load_trait(name).evaluation_questions)
    ]
    assert len({question.casefold() for _, question in questions}) == len(NAMES) * 40
    alike = [
        (first, second)
        for first, second in itertools.combinations(questions, 2)
        if overlap(content_words(first[1]), content_words(second[1])) >= 0.5
    ]
    assert not alike


def test_questions_are_not_made_from_a_template(trait: Trait) -> None:
    openings = [" ".join(q.lower().split()[:3]) for q in (*trait.extraction_questions, *trait.evaluation_questions)]
    assert max(openings.count(opening) for opening in openings) <= 4


def test_the_rubric_states_its_scale_and_the_way_out(trait: Trait) -> None:
    for needed in ("{question}", "{answer}", "\n0: ", "\n50: ", "\n100: ", "REFUSAL", "from 0 to 100"):
        assert trait.rubric.count(needed) >= 1
    filled = trait.rubric_for("Is it late?", "Yes.")
    assert "Is it late?" in filled
    assert "{" not in filled


def test_the_library_survives_a_round_trip(trait: Trait) -> None:
    assert Trait.from_json(trait.to_json()) == trait
