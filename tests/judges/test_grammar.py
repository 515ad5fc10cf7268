"""The exact judge: scores are read, never guessed."""

from __future__ import annotations

import dataclasses
import random

import pytest

from persona_interp.errors import UnknownNameError
from persona_interp.organisms.grammar import TOPICS, TRAITS, Persona, answer
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait

TOPIC = next(iter(TOPICS))


@pytest.mark.parametrize("name", TRAITS)
@pytest.mark.parametrize("present", [True, False])
def test_what_the_grammar_says_is_what_the_judge_reads(trait: Trait, name: str, present: bool) -> None:
    wanted = dataclasses.replace(trait, name=name)
    text = answer(random.Random(0), TOPIC, Persona().with_traits({name: present}))
    (judgement,) = GrammarJudge().judge(wanted, [(f"What is a {TOPIC}?", text)])
    assert judgement == Judgement(100.0 if present else 0.0, 100.0)


def test_nonsense_has_no_trait_score_rather_than_zero(trait: Trait) -> None:
    assert GrammarJudge().judge(trait, [(f"What is a {TOPIC}?", "Colourless green ideas."), ("q", "")]) == [
        Judgement(None, 0.0),
        Judgement(None, 0.0),
    ]


def test_trait_the_grammar_does_not_know(trait: Trait) -> None:
    with pytest.raises(UnknownNameError, match="unknown trait of the grammar judge 'evil'.*Use another judge"):
        GrammarJudge().judge(dataclasses.replace(trait, name="evil"), [])
