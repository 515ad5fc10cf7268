"""A trait: the texts that bring it out, the questions it may show in, and the rubric that scores it.

The JSON on disk is the schema persona-vector code shares (``instruction``, ``questions``, ``eval_prompt``; Chen et al.,
arXiv 2507.21509, section 2) with five fields of ours beside it: ``format_version``, ``name``, ``description``, ``n_extraction``,
which says how many of the questions, from the first, are for extraction, and ``measures``, which may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from persona_interp.characters import check_characters
from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.storage import read_json, safe_name, write_json
from persona_interp.traits.rubric import check_rubric, fill_rubric

FORMAT_VERSION = 1
N_PAIRS = 5
_OUR_FIELDS = ("format_version", "name", "description", "n_extraction", "measures")
_SHARED_FIELDS = ("instruction", "questions", "eval_prompt")
# Files that only show the answer to their judge get the question in front, so that every rubric states both.
_QUESTION_PREAMBLE = "The question the assistant was asked:\n{question}\n\n"


@dataclass(frozen=True)
class InstructionPair:
    """Two system prompts that pull in opposite directions: `positive` towards the trait, `negative` away from it."""

    positive: str
    negative: str


@dataclass(frozen=True)
class Trait:
    """A character trait, described well enough to be elicited and scored.

    Attributes:
        name: a name that is safe as a file name.
        description: what the trait is, in a sentence or two.
        instructions: five contrastive pairs of system prompts.
        extraction_questions: asked while a vector is extracted; at least one.
        evaluation_questions: asked while it is evaluated, none of them an extraction question; may be empty.
        rubric: a judge's instructions with ``{question}`` and ``{answer}`` in them, asking for 0-100 or REFUSAL.
        measures: names of measures that speak for the trait, the best first; a minus sign in front says that low values do. May
            be empty. Which measures there are is not known here, so an unknown name is told when one is asked to score.

    Example:
        >>> trait = Trait.load("my_trait.json")
        >>> trait.rubric_for("How are you?", "Splendid!")

    Raises:
        InvalidInputError: a text is blank, occurs twice or lacks a placeholder, or there are not five pairs; names the field.
    """

    name: str
    description: str
    instructions: tuple[InstructionPair, ...]
    extraction_questions: tuple[str, ...]
    evaluation_questions: tuple[str, ...]
    rubric: str
    measures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_text(self.description, "description")
        labelled = [(f"instructions[{i}]", pair.positive, pair.negative) for i, pair in enumerate(self.instructions)]
        _check_pairs(labelled, ("positive", "negative"))
        if not self.extraction_questions:
            raise InvalidInputError("field 'extraction_questions' is empty; give at least one question")
        _check_distinct(
            [(f"extraction_questions[{i}]", q) for i, q in enumerate(self.extraction_questions)]
            + [(f"evaluation_questions[{i}]", q) for i, q in enumerate(self.evaluation_questions)]
        )
        check_rubric(_check_text(self.rubric, "rubric"), "field 'rubric'")
        _check_measures(self.measures)

    @property
    def measure_signs(self) -> dict[str, int]:
        """The measures that speak for the trait -> 1 where high values do, -1 where low ones do."""
        return {name.removeprefix("-"): -1 if name.startswith("-") else 1 for name in self.measures}

    def rubric_for(self, question: str, answer: str) -> str:
        """The rubric with both placeholders filled; other braces, also those in the texts put in, stay as they are."""
        return fill_rubric(self.rubric, question, answer)

    def to_json(self) -> dict[str, Any]:
        """The trait as the JSON object `save` writes."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "description": self.description,
            "instruction": [{"pos": pair.positive, "neg": pair.negative} for pair in self.instructions],
            "n_extraction": len(self.extraction_questions),
            "questions": [*self.extraction_questions, *self.evaluation_questions],
            "eval_prompt": self.rubric,
            **({"measures": list(self.measures)} if self.measures else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, source: str = "trait", name: str | None = None) -> Trait:
        """Read our JSON, or anybody's with `instruction`, `questions` and `eval_prompt`.

        Without `n_extraction`, forty questions are split in half and any other number is all for extraction. In a file
        without `format_version` the description may be missing, and a rubric without ``{question}`` gets the question
        written before it.

        Args:
            value: the JSON object.
            source: where it came from, for error messages.
            name: the trait's name where the object gives none.

        Raises:
            FileFormatError: a field is missing, of the wrong type or unusable, or the format version is unknown; names the field.
        """
        try:
            return _parse(value, name)
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the trait as JSON, whole or not at all; returns the path."""
        return write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Trait:
        """Read a trait file; one that gives no name is called after the file.

        Raises:
            FileFormatError: the file is missing, not JSON, or not a trait; names the file and the field.
        """
        path = Path(path)
        return cls.from_json(read_json(path, "trait file"), source=f"trait file {path}", name=path.stem)


def _parse(value: Mapping[str, Any], default_name: str | None) -> Trait:
    ours = "format_version" in value
    if ours:
        _check_version(value)
    required = (*_SHARED_FIELDS, "name", "description") if ours else _SHARED_FIELDS
    if missing := [field for field in required if field not in value]:
        raise InvalidInputError(f"missing {', '.join(map(repr, missing))}; a trait file needs {', '.join(map(repr, required))}")
    name = _check_name(value.get("name", default_name))
    pairs = _parse_pairs(value["instruction"])
    questions = _parse_questions(value["questions"])
    n_extraction = _parse_split(value, len(questions))
    rubric = _check_text(value["eval_prompt"], "eval_prompt")
    if not ours and "{question}" not in rubric:
        rubric = _QUESTION_PREAMBLE + rubric
    check_rubric(rubric, "field 'eval_prompt'")
    return Trait(
        name=name,
        description=_check_text(value.get("description", f"The trait {name!r}; its file gives no description."), "description"),
        instructions=pairs,
        extraction_questions=questions[:n_extraction],
        evaluation_questions=questions[n_extraction:],
        rubric=rubric,
        measures=_parse_measures(value) if ours else (),
    )


def _check_version(value: Mapping[str, Any]) -> None:
    version = value["format_version"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise InvalidInputError(f"field 'format_version' is {version!r}; this version of the package reads {FORMAT_VERSION}")
    # A misspelt field in a file of ours would otherwise be passed over, and a misspelt n_extraction moves the split.
    if unknown := sorted(set(value) - {*_OUR_FIELDS, *_SHARED_FIELDS}):
        known = ", ".join((*_OUR_FIELDS, *_SHARED_FIELDS))
        raise InvalidInputError(f"unknown field {unknown[0]!r}; format version {FORMAT_VERSION} has {known}")


def _parse_pairs(value: object) -> tuple[InstructionPair, ...]:
    labelled: list[tuple[str, object, object]] = []
    for index, item in enumerate(_check_list(value, "instruction")):
        label = f"instruction[{index}]"
        if not isinstance(item, Mapping):
            raise InvalidInputError(f"field '{label}' is a {type(item).__name__}; expected an object with 'pos' and 'neg'")
        fields = cast(Mapping[str, object], item)
        if missing := [key for key in ("pos", "neg") if key not in fields]:
            raise InvalidInputError(f"field '{label}' has no {missing[0]!r}; each pair needs 'pos' and 'neg'")
        labelled.append((label, fields["pos"], fields["neg"]))
    return tuple(InstructionPair(*pair) for pair in _check_pairs(labelled, ("pos", "neg")))


def _parse_questions(value: object) -> tuple[str, ...]:
    texts = _check_list(value, "questions")
    if not texts:
        raise InvalidInputError("field 'questions' is empty; give at least one question")
    return tuple(_check_distinct([(f"questions[{index}]", text) for index, text in enumerate(texts)]))


def _parse_split(value: Mapping[str, Any], n_questions: int) -> int:
    if "n_extraction" not in value:
        return 20 if n_questions == 40 else n_questions
    count = value["n_extraction"]
    if type(count) is not int or not 1 <= count <= n_questions:
        raise InvalidInputError(f"field 'n_extraction' is {count!r}; expected 1 to {n_questions}, the number of questions")
    return count


def _parse_measures(value: Mapping[str, Any]) -> tuple[str, ...]:
    return _check_measures(_check_list(value.get("measures", []), "measures"))


def _check_measures(names: Sequence[object]) -> tuple[str, ...]:
    checked = [_check_text(name, f"measures[{index}]") for index, name in enumerate(names)]
    bare = [name.removeprefix("-") for name in checked]
    for index, name in enumerate(bare):
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise InvalidInputError(
                f"field 'measures[{index}]' is {checked[index]!r}; expected the name of a measure in small letters, with a minus "
                "sign in front where low values speak for the trait"
            )
        if name in bare[:index]:
            raise InvalidInputError(f"field 'measures[{index}]' names {name!r} a second time; name each measure once")
    return tuple(checked)


def _check_name(value: object) -> str:
    if value is None:
        raise InvalidInputError("missing 'name'; give the trait one")
    name = safe_name(_check_text(value, "name"), "field 'name':")
    if name.lower().endswith(".json"):
        raise InvalidInputError(f"field 'name' is {name!r}, which reads like a file; leave the '.json' out")
    return name


def _check_list(value: object, field: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidInputError(f"field {field!r} is a {type(value).__name__}; expected a list")
    return cast(list[object], value)


def _check_text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"field {field!r} is a {type(value).__name__} ({value!r}); expected text")
    if not value.strip():
        raise InvalidInputError(f"field {field!r} is empty; write some text or remove the entry")
    return check_characters(value, f"field {field!r}")


def _check_distinct(labelled: Sequence[tuple[str, object]]) -> list[str]:
    seen: dict[str, str] = {}
    texts: list[str] = []
    for label, value in labelled:
        text = _check_text(value, label)
        key = " ".join(text.casefold().split())
        if key in seen:
            raise InvalidInputError(f"field {label!r} repeats {seen[key]!r} ({text!r}); every one must be different")
        seen[key] = label
        texts.append(text)
    return texts


def _check_pairs(labelled: Sequence[tuple[str, object, object]], sides: tuple[str, str]) -> list[tuple[str, str]]:
    if len(labelled) != N_PAIRS:
        field = "instruction" if sides[0] == "pos" else "instructions"
        raise InvalidInputError(f"field {field!r} has {len(labelled)} pairs; expected exactly {N_PAIRS}")
    flat = [(f"{label}.{side}", text) for label, *pair in labelled for side, text in zip(sides, pair, strict=True)]
    texts = _check_distinct(flat)
    return list(zip(texts[::2], texts[1::2], strict=True))
