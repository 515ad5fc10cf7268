"""What the organisms add to the library, registered by importing this: their kind of models, their weights, their exact judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persona_interp.judges.kinds import register_judge, without_argument
from persona_interp.models.shipped import register_shipped_model
from persona_interp.organisms.grammar.persona import TRAITS
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import ModelKind, register_model_kind
from persona_interp.traits.trait import InstructionPair, Trait


class Organisms(ModelKind):
    """Models trained on the persona grammar, which speak nothing else. Each part is loaded when it is first needed."""

    name = "organism"
    trait_names = TRAITS

    def covers(self, model: Any) -> bool:
        """By the mark in its config."""
        from persona_interp.organisms.trait_texts import is_organism

        return is_organism(model)

    def covers_name(self, name: str) -> bool:
        """By the mark in the config of its folder or GGUF file."""
        from persona_interp.organisms.trait_texts import names_organism

        return names_organism(name)

    def trait(self, name: str) -> Trait:
        """In wordings reserved for extraction and evaluation."""
        from persona_interp.organisms.trait_texts import organism_trait

        return organism_trait(name)

    def judge(self, model: Any, trait: Trait | None) -> Judge:
        """The exact one; for traits the grammar does not know one by likelihoods, because an organism follows no rubric."""
        if trait is None or trait.name in TRAITS:
            return _grammar(model)
        from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge

        return LikelihoodContrastJudge(model)

    def anchors(self, n: int | None) -> Sequence[tuple[str, str]]:
        """Their training corpus."""
        from persona_interp.organisms.anchors import N_ORGANISM, corpus_exchanges

        return corpus_exchanges(N_ORGANISM if n is None else n)

    def evaluation_instructions(self, trait: str) -> Sequence[InstructionPair]:
        """In wordings used neither in training nor in extraction."""
        from persona_interp.organisms.trait_texts import evaluation_instructions

        return evaluation_instructions(trait)

    def earlier_answers(self, trait: str, n: int) -> Sequence[Conversation]:
        """Second turns on the topic of the first; the organisms know no others."""
        from persona_interp.organisms.conditions import earlier_answers

        return earlier_answers(trait, n)


def _grammar(_model: Any) -> Judge:
    from persona_interp.organisms.grammar_judge import GrammarJudge

    return GrammarJudge()


register_model_kind(Organisms())
for _config in sorted((Path(__file__).parent / "weights").glob("organism-*/config.json")):
    register_shipped_model(_config.parent.name, _config.parent)
register_judge("grammar", without_argument("grammar", _grammar), guard=False, help="the exact one of the model organisms")
