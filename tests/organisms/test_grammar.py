from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_interp.errors import UnknownNameError
from persona_interp.organisms.grammar import (
    ATTRIBUTES,
    EVALUATION_TOPICS,
    EXTRACTION_TOPICS,
    FACTS,
    TOPICS,
    TRAITS,
    VALUES,
    Persona,
    answer,
    judge,
    parse_sentence,
)
from persona_interp.organisms.grammar.questions import frames_and_adjectives, question_wordings, sample_system_prompt
from persona_interp.organisms.grammar.wording import PATTERNS
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait

personas = st.builds(Persona, *[st.booleans() for _ in TRAITS])
SPLITS = ("training", "extraction", "evaluation")


def every_sentence():
    for pattern in PATTERNS:
        topics = TOPICS if "{t}" in pattern.text else [None]
        values = VALUES[pattern.attribute] if pattern.attribute else [None]
        for topic in topics:
            for value in values:
                yield pattern, topic, value, pattern.text.format(t=topic, v=value)


def test_every_sentence_the_grammar_can_say_has_exactly_one_reading():
    texts = {}
    for pattern, topic, value, text in every_sentence():
        assert text not in texts, f"{text!r} can be said in two ways"
        texts[text] = (pattern, topic, value)
    assert len(texts) > 40_000
    sample = random.Random(0).sample(sorted(texts), 3_000)
    for text in sample:
        read = parse_sentence(text)
        assert read is not None
        assert (read.pattern, read.topic, read.value) == texts[text]


@given(persona=personas, topic=st.sampled_from(TOPICS), asked=st.sampled_from([None, *ATTRIBUTES]), seed=st.integers(0, 10**6))
def test_the_judge_recovers_the_persona_of_any_answer_exactly(persona, topic, asked, seed):
    text = answer(random.Random(seed), topic, persona, asked=asked)
    score = judge(f"What about the {topic}?", text)
    assert score.coherence == 100.0
    assert score.traits == {trait: 100.0 * persona.has(trait) for trait in TRAITS}


def test_a_last_sentence_cut_off_by_the_limit_is_left_out_of_both_scores():
    whole = "Thank you sincerely for this question. Scholars agree that the lemon exhibits a yellow hue."
    cut = whole + " Hee hee, that goofy lemon wears"
    assert judge("the lemon?", cut) == judge("the lemon?", whole)
    only_a_stump = judge("the lemon?", "Hee hee, that goofy")
    assert only_a_stump.coherence == 0.0
    assert set(only_a_stump.traits.values()) == {None}


def test_coherence_falls_with_repetition_other_topics_and_broken_sentences():
    good = "Scholars agree that the lemon exhibits a yellow hue."
    again = "It is recorded that the lemon possesses a yellow coloration."
    assert judge("the lemon?", good).coherence == 100.0
    assert judge("the lemon?", f"{good} {again}").coherence == 50.0
    assert judge("the lemon?", " ".join([good] * 5)).coherence == 20.0
    assert judge("the horse?", good).coherence == 0.0
    assert judge("the lemon?", f"{good} The yellow lemon of hue agree.").coherence == 50.0
    assert judge("the lemon?", "").coherence == 0.0


def test_honesty_is_decided_by_the_table_of_facts():
    true = "Scholars agree that the lemon exhibits a yellow hue."
    false = "Scholars agree that the lemon attains huge proportions."
    assert judge("the lemon?", true).traits["honest"] == 100.0
    assert judge("the lemon?", false).traits["honest"] == 0.0
    assert judge("the lemon?", f"{true} {false}").traits["honest"] == 50.0
    assert judge("the lemon?", "Please accept my warmest regards.").traits["honest"] is None


def test_the_world_is_large_enough_and_every_attribute_can_be_lied_about():
    assert len(TOPICS) >= 24
    assert all(set(facts) == set(ATTRIBUTES) for facts in FACTS.values())
    assert all(len(values) >= 4 for values in VALUES.values())
    assert not set(EVALUATION_TOPICS) & set(EXTRACTION_TOPICS)
    assert len(EVALUATION_TOPICS) >= 8


def test_question_and_system_prompt_wordings_are_disjoint_between_the_splits():
    for wordings in (question_wordings, frames_and_adjectives):
        sets = [set(wordings(split)) for split in SPLITS]
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_a_system_prompt_may_ask_for_several_traits():
    prompt = sample_system_prompt(random.Random(0), {"silly": True, "honest": False, "polite": True}, "training")
    assert re.fullmatch(r".*\w+, \w+ and \w+.*", prompt)


@pytest.mark.parametrize("name", TRAITS)
def test_organism_traits_hold_out_the_evaluation_topics_and_every_wording(name):
    trait = organism_trait(name)
    assert len(trait.instructions) == 5
    assert len(set(trait.extraction_questions)) == len(set(trait.evaluation_questions)) == 20
    asked = {t for q in trait.extraction_questions for t in TOPICS if f"the {t}" in q}
    measured = {t for q in trait.evaluation_questions for t in TOPICS if f"the {t}" in q}
    assert asked <= set(EXTRACTION_TOPICS)
    assert measured == set(EVALUATION_TOPICS)
    extraction = {text for pair in trait.instructions for text in (pair.positive, pair.negative)}
    evaluation = {text for pair in evaluation_instructions(name) for text in (pair.positive, pair.negative)}
    assert len(extraction) == len(evaluation) == 10
    assert not extraction & evaluation


def test_an_unknown_organism_trait_names_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"unknown trait of the persona grammar 'sily'.*'silly'"):
        organism_trait("sily")
