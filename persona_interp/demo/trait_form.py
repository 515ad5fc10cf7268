"""A trait of the visitor's own: what stands in the form, and how a model or a template fills it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_DESCRIPTION, MAX_NEW_TOKENS, MAX_TRAIT_TEXT, checked_text
from persona_interp.errors import InvalidInputError
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar import TRAITS
from persona_interp.organisms.trait_texts import is_organism, organism_template
from persona_interp.traits.authoring import rubric_for_description, template_trait, write_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import InstructionPair, Trait

QUESTIONS = 20
"""Questions a model is asked to write, half of them for extraction."""
_TEMPERATURE = 0.7


@dataclass(frozen=True)
class TraitForm:
    """The fields, as typed.

    Attributes:
        name: of the trait.
        description: in a sentence or two.
        positives: five system prompts towards the trait.
        negatives: five away from it.
        extraction: questions, one a line.
        evaluation: questions, one a line; may be empty.
        rubric: empty: one made of name and description.
    """

    name: str
    description: str
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    extraction: str = ""
    evaluation: str = ""
    rubric: str = ""

    @classmethod
    def of(cls, trait: Trait) -> TraitForm:
        """A form filled in with a trait."""
        return cls(
            trait.name,
            trait.description,
            tuple(pair.positive for pair in trait.instructions),
            tuple(pair.negative for pair in trait.instructions),
            "\n".join(map(_one_line, trait.extraction_questions)),
            "\n".join(map(_one_line, trait.evaluation_questions)),
            trait.rubric,
        )

    def trait(self) -> Trait:
        """The trait in the form.

        Raises:
            InvalidInputError: a field cannot be used; says which in the words of the form.
        """
        texts: list[object] = [*self.positives, *self.negatives, self.extraction, self.evaluation, self.rubric]
        if any(not isinstance(text, str) for text in texts) or sum(len(str(text)) for text in texts) > MAX_TRAIT_TEXT:
            raise InvalidInputError(f"a trait's texts may have {MAX_TRAIT_TEXT} characters together here: shorten them")
        name, description = checked_head(self.name, self.description)
        for number, pair in enumerate(zip(self.positives, self.negatives, strict=True), start=1):
            for side, text in zip(("for the trait", "for its opposite"), pair, strict=True):
                if not text.strip():
                    raise InvalidInputError(f"system prompt {number} {side} is empty: write it, or fill in a template")
        return Trait(
            name,
            description,
            tuple(InstructionPair(*map(str.strip, pair)) for pair in zip(self.positives, self.negatives, strict=True)),
            _lines(self.extraction),
            _lines(self.evaluation),
            self.rubric.strip() or rubric_for_description(name, description),
        )


def checked_head(name: object, description: object) -> tuple[str, str]:
    """Name and description.

    Raises:
        InvalidInputError: one cannot be used, or the name is that of a trait of the organisms.
    """
    called = checked_text(name, "name", 100)
    said = checked_text(description, "description", MAX_DESCRIPTION)
    if called in TRAITS:
        raise InvalidInputError(f"{called!r} is a trait of the bundled organisms: give yours another name")
    return template_trait(called, said).name, said


def template(model: SteerableModel, name: object, description: object) -> tuple[Trait, str]:
    """A trait to edit, in words `model` can be expected to follow, and what should be said of it."""
    called, said = checked_head(name, description)
    if is_organism(model):
        trait, base = organism_template(called, said)
        return trait, (
            f"Filled in from the grammar's own trait {base!r}, because {model.name} understands no other instructions. Edit what "
            "you like; words the grammar does not have, it has never seen."
        )
    return template_trait(called, said), "Filled in with a template around the description. Make the pairs your own."


def written(job: Job[Any], model: SteerableModel, name: object, description: object, seed: int = 0) -> tuple[Trait, str]:
    """A trait whose prompts and questions `model` wrote; on an organism, which cannot write, a template.

    Raises:
        InvalidInputError: name or description cannot be used.
        PersonaInterpError: the model's replies cannot be used.
    """
    called, said = checked_head(name, description)
    if is_organism(model):
        trait, note = template(model, called, said)
        return trait, f"{model.name} cannot write traits: it speaks its grammar alone. {note}"
    longest = min(MAX_NEW_TOKENS * 2, model.n_ctx // 2)

    def ask(request: str, attempt: int) -> str:
        sampling = Sampling(max_new_tokens=longest, temperature=_TEMPERATURE)
        return model.generate([Conversation.ask(request)], sampling=sampling, seed=[fitting_seed(seed + attempt)])[0].text

    def say(part: str) -> None:
        job.doing(f"{model.name} writes {part}")

    trait = write_trait(called, said, ask, n_questions=QUESTIONS, on_part=say)
    return trait, f"Written by {model.name}. Read it before you use it: nothing here can tell whether it brings the trait out."


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _one_line(text: str) -> str:
    return " ".join(text.split())
