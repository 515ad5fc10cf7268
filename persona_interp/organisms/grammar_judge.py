"""The exact judge of the model organisms, whose every sentence can be parsed."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.errors import unknown_name
from persona_interp.organisms.grammar import TRAITS
from persona_interp.organisms.grammar import judge as judge_answer
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait


class GrammarJudge:
    """Reads the scores off an answer in the persona grammar; no model is asked, and nothing is uncertain.

    The trait is found by its name; its rubric is not used. Coherence is the share of complete sentences that are grammatical, on
    topic and no repetition. An answer in which no complete sentence shows the trait has no trait score.
    """

    name = "grammar"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs.

        Raises:
            UnknownNameError: the grammar has no trait of that name.
        """
        if trait.name not in TRAITS:
            raise unknown_name(
                "trait of the grammar judge",
                trait.name,
                TRAITS,
                "Use another judge for other traits, for example contrast, or none.",
            )
        scores = [judge_answer(question, answer) for question, answer in exchanges]
        return [Judgement(trait=score.traits.get(trait.name), coherence=score.coherence) for score in scores]

    def determinants(self, trait: Trait) -> list[str]:
        """What its scores depend on besides the texts."""
        return ["grammar", trait.name]
