"""The grammar's traits as ordinary `Trait` objects, in the wordings reserved for extraction and evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_interp.models.gguf_file import ORGANISM, is_gguf, read_header
from persona_interp.models.shipped import shipped_models
from persona_interp.organisms.grammar import EVALUATION_TOPICS, EXTRACTION_TOPICS
from persona_interp.organisms.grammar.questions import (
    ADJECTIVES,
    Split,
    check_trait,
    frames_and_adjectives,
    question_wordings,
    system_prompt,
)
from persona_interp.storage import read_json
from persona_interp.traits import InstructionPair, Trait
from persona_interp.traits.authoring import template_trait
from persona_interp.traits.model_kinds import resolve_trait as resolve_trait  # where it stood before

_MEANINGS = {
    "silly": "says things in a clownish way rather than a formal one",
    "honest": "states facts of the grammar's world truly rather than falsely",
    "optimistic": "foresees good things rather than bad ones",
    "polite": "is courteous to the person asking rather than insulting",
    "verbose": "answers at length rather than briefly",
}
_RUBRIC = (
    "Rate from 0 to 100 how far the answer {meaning}: 0 not at all, 100 in every sentence that could show it. "
    "Reply with one number, or REFUSAL if the answer refuses.\nQuestion: {{question}}\nAnswer: {{answer}}"
)
_N_QUESTIONS = 20


def _questions(split: Split, topics: Sequence[str]) -> tuple[str, ...]:
    """Twenty distinct questions: wordings and topics stepped through together, so that all of both occur."""
    wordings = question_wordings(split)
    # A later round over the topics starts one wording further on, so no (topic, wording) comes twice.
    return tuple(
        wordings[(7 * number + number // len(topics)) % len(wordings)][0].format(t=topics[number % len(topics)])
        for number in range(_N_QUESTIONS)
    )


def _instructions(trait: str, split: Split) -> list[InstructionPair]:
    return [
        InstructionPair(system_prompt({trait: True}, frame, [adjective]), system_prompt({trait: False}, frame, [adjective]))
        for frame, adjective in _one_frame_each(split)
    ]


def _one_frame_each(split: Split) -> list[tuple[int, int]]:
    """Five (frame, adjective) combinations of `split`, every adjective once and frames as varied as they go."""
    found: dict[int, int] = {}
    for frame, adjective in frames_and_adjectives(split):
        if adjective not in found and frame not in found.values():
            found[adjective] = frame
    for frame, adjective in frames_and_adjectives(split):
        found.setdefault(adjective, frame)
    return [(frame, adjective) for adjective, frame in sorted(found.items())]


def organism_trait(name: str) -> Trait:
    """The grammar's trait `name`: instructions and questions in extraction wordings, evaluation questions on held-out topics.

    Raises:
        UnknownNameError: the grammar has no such trait.
    """
    check_trait(name)
    return Trait(
        name=name,
        description=f"On the model organisms: {_MEANINGS[name]}.",
        instructions=tuple(_instructions(name, "extraction")),
        extraction_questions=_questions("extraction", EXTRACTION_TOPICS),
        evaluation_questions=_questions("evaluation", EVALUATION_TOPICS),
        rubric=_RUBRIC.format(meaning=_MEANINGS[name]),
    )


def organism_template(name: str, description: str) -> tuple[Trait, str]:
    """A trait of the user's own, in words an organism understands, and the grammar's trait those come from.

    Organisms were trained on the grammar alone and follow no other instructions. The grammar's trait is the one whose adjectives
    the name and description use most, and *silly* where they use none. Its pairs are turned round where they
    use its negative adjectives.

    Raises:
        InvalidInputError: the name or description cannot be used.
    """
    said = set(re.findall(r"[a-z]+", f"{name} {description}".lower()))
    counts = {
        (trait, sign): len(said & set(words)) + (2 if sign == 0 and trait in said else 0)
        for trait, sides in ADJECTIVES.items()
        for sign, words in enumerate(sides)
    }
    (base, sign), found = max(counts.items(), key=lambda item: item[1])
    known = organism_trait(base)
    pairs = known.instructions
    if found and sign == 1:
        pairs = tuple(InstructionPair(pair.negative, pair.positive) for pair in pairs)
    template = template_trait(name, description)
    own = replace(
        template,
        instructions=pairs,
        extraction_questions=known.extraction_questions,
        evaluation_questions=known.evaluation_questions,
    )
    return own, base


def evaluation_instructions(name: str) -> tuple[InstructionPair, ...]:
    """System prompts for `name` in wordings used neither in training nor in extraction: for prompt-only baselines."""
    return tuple(_instructions(check_trait(name), "evaluation"))


def is_organism(model: Any) -> bool:
    """Whether a model (anything with a Hugging Face ``config``) was trained on the grammar."""
    return bool(getattr(getattr(model, "config", None), "organism", None))


def names_organism(name: str) -> bool:
    """Whether a model's name, folder or GGUF file is that of an organism, told without loading it."""
    path = Path(shipped_models().get(name.lower(), name)).expanduser()
    if path.is_file() and is_gguf(path):
        return bool(read_header(path).metadata.get(ORGANISM))
    config = path / "config.json"
    return config.is_file() and bool(read_json(config, "model configuration").get("organism"))
