"""A new trait: templates are valid as they are, replies of many shapes are read, and those that cannot be used are quoted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.traits.authoring import ATTEMPTS, read_pairs, read_questions, template_trait, write_trait
from persona_interp.traits.trait import InstructionPair, Trait

PAIRS = [{"pos": f"You long for the past, way {n}.", "neg": f"You look ahead, way {n}."} for n in range(5)]
QUESTIONS = [f"What do you make of subject {n}?" for n in range(40)]


def scripted(replies: Sequence[str]) -> tuple[Callable[[str, int], str], list[str]]:
    """A model that gives these replies one after the other, and what it was asked."""
    left, asked = list(replies), []

    def ask(request: str, _attempt: int) -> str:
        asked.append(request)
        return left.pop(0) if left else "I would rather not."

    return ask, asked


def obedient(request: str, _attempt: int) -> str:
    """A model that does what it is asked: pairs, or as many questions as asked for that it has not given."""
    if "pairs of system prompts" in request:
        return f"Of course!\n```json\n{json.dumps(PAIRS)}\n```"
    n = int(request.split("Write ")[1].split()[0])
    return json.dumps([question for question in QUESTIONS if question not in request][:n])


def test_a_model_that_does_as_asked_gives_a_valid_trait() -> None:
    told: list[str] = []
    trait = write_trait("nostalgic", "Longs for how things used to be", obedient, on_part=told.append)
    assert trait.instructions[0] == InstructionPair(PAIRS[0]["pos"], PAIRS[0]["neg"])
    assert (*trait.extraction_questions, *trait.evaluation_questions) == tuple(QUESTIONS)
    assert len(trait.extraction_questions) == 20
    assert trait.description == "Longs for how things used to be."
    assert Trait.from_json(trait.to_json()) == trait
    assert told[0] == "system prompts"
    assert told[-1] == "questions, 30 of 40 written"


def test_what_a_first_reply_lacks_is_asked_for_again() -> None:
    ask, asked = scripted(["Sorry?", json.dumps(PAIRS), json.dumps(QUESTIONS[:2]), json.dumps(QUESTIONS[:4])])
    trait = write_trait("nostalgic", "Longs for the past.", ask, n_questions=4)
    assert (*trait.extraction_questions, *trait.evaluation_questions) == tuple(QUESTIONS[:4])
    assert len(asked) == 4
    assert QUESTIONS[0] in asked[3]
    assert "Write 2 different questions" in asked[3]


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([], "asked 3 times for 5 pairs of system prompts and gave 0 pairs; its last reply was 'I would rather not.'"),
        ([json.dumps(PAIRS[:3])] * ATTEMPTS, "gave 3 pairs"),
        ([json.dumps([PAIRS[0]] * 5)] * ATTEMPTS, "gave 1 pairs"),
        ([""] * ATTEMPTS, "its last reply was nothing"),
        (["x" * 500] * ATTEMPTS, "xxx\\.\\.\\.'"),
        ([json.dumps(PAIRS), "none", "none", json.dumps(["One?"])], "for 4 different questions and gave 1 of them"),
    ],
)
def test_replies_that_cannot_be_used_are_quoted_with_a_remedy(replies: list[str], words: str) -> None:
    ask, _ = scripted(replies)
    with pytest.raises(PersonaInterpError, match=words) as caught:
        write_trait("nostalgic", "Longs for the past.", ask, n_questions=4)
    assert "fill them in yourself" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "description", "n_questions", "words"),
    [
        ("../evil", "Longs.", 4, "cannot be a file name"),
        ("", "Longs.", 4, "empty"),
        ("nostalgic", "  ", 4, "the description is empty"),
        ("nostalgic", "Longs.", 1, "at least 2"),
    ],
)
def test_what_cannot_be_a_trait_is_refused_before_anything_is_asked(
    name: str, description: str, n_questions: int, words: str
) -> None:
    ask, asked = scripted([])
    with pytest.raises(InvalidInputError, match=words):
        write_trait(name, description, ask, n_questions=n_questions)
    assert asked == []


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(PAIRS),
        json.dumps({"instruction": PAIRS}),
        json.dumps([{"positive": pair["pos"], "negative": pair["neg"]} for pair in PAIRS]),
        "Here they are: " + "\n".join(json.dumps(pair) for pair in PAIRS),
        "<think>Shall I write [1, 2]?</think>" + json.dumps(PAIRS),
        "\n".join(f'{n}. Pos: {pair["pos"]}\n   Neg: "{pair["neg"]}"' for n, pair in enumerate(PAIRS, start=1)),
        "\n".join(f"**Positive:** {pair['pos']}\n**Negative:** {pair['neg']}" for pair in PAIRS),
    ],
)
def test_pairs_are_read_out_of_many_kinds_of_replies(reply: str) -> None:
    assert read_pairs(reply) == [InstructionPair(pair["pos"], pair["neg"]) for pair in PAIRS]


@pytest.mark.parametrize(
    "reply",
    [
        '["Why?", "How so?"]',
        '{"questions": ["Why?", "How so?"]}',
        "Sure:\n1. Why?\n2) How so?",
        '- "Why?"\n- "How so?"',
        '<think>["Who?"]</think>```json\n["Why?",\n"How so?"]\n```',
    ],
)
def test_questions_are_read_out_of_many_kinds_of_replies(reply: str) -> None:
    assert read_questions(reply) == ["Why?", "How so?"]


@pytest.mark.parametrize("reply", ["", "[", "[" * 5000, '{"pos": 1, "neg": null}', "[null, 3]", "Why not?"])
def test_replies_without_any_are_read_as_none(reply: str) -> None:
    assert read_pairs(reply) == []
    assert read_questions(reply) == []


def test_a_template_is_a_valid_trait_around_its_description() -> None:
    trait = template_trait("nostalgic", "Longs for  how things\nused to be")
    assert Trait.from_json(trait.to_json()) == trait
    assert all("Longs for how things used to be." in pair.positive for pair in trait.instructions)
    assert trait.extraction_questions
    filled = trait.rubric_for("How?", "So.")
    assert "How?" in filled
    assert "{question}" not in template_trait("odd", "Says {question} and {answer} a lot.").rubric_for("a", "b")
