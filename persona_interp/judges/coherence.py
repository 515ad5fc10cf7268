"""Coherence without a judge that follows instructions: how an answer compares with the model's own unsteered ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persona_interp.judges.determinants import determinants
from persona_interp.judges.one_each import one_each
from persona_interp.judges.reference import DAMAGE, N_ANSWERS, SAMPLING, SEED, reference_of
from persona_interp.judges.surprise import surprises
from persona_interp.judges.words import repetition
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait


def reference_settings(model: SteerableModel, trait: Trait) -> dict[str, Any]:
    """All that a `Reference` depends on."""
    fingerprint = model.identity.fingerprint
    made = [N_ANSWERS, SAMPLING.to_json(), SEED, list(DAMAGE)]
    return {"reference": fingerprint, "questions": list(trait.extraction_questions), "made": made}


class PerplexityCoherence:
    """Scores coherence alone, 0 to 100, with a model that need not follow any instruction; the trait score is None.

    Two things are compared with the model's own unsteered answers to the trait's extraction questions, see `Reference`: how
    unlikely the answer is to that model given the question (`order_score`: what share of neighbouring words seems to belong
    together), and how often it repeats itself (`variety_score`). Coherence is their product over 100. An answer the model itself
    might have given scores 100, words in random order 20 or less, one sentence said five times about 20, and an empty answer 0.
    It does not see whether an answer contradicts itself, nor much of whether it speaks to the question.

    None where the model cannot tell its own answers from shuffled words, as an untrained one cannot.

    Example:
        >>> judge = JoinedJudge(LikelihoodContrastJudge(model), PerplexityCoherence(model))

    Args:
        model: the model that answered, unsteered; another one knows its own ways of speaking only.
    """

    def __init__(self, model: SteerableModel) -> None:
        self.model = model
        self.name = f"perplexity:{model.name}"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        if not exchanges:
            return []
        reference = reference_of(self.model, trait)
        found: list[Judgement] = []
        for (_, answer), surprise in zip(exchanges, surprises(self.model, exchanges), strict=True):
            if surprise is None or not answer.strip():
                found.append(Judgement(None, 0.0))
            elif not reference.tells:
                found.append(Judgement(None, None))
            else:
                order, variety = reference.order_score(surprise), reference.variety_score(repetition(answer))
                found.append(Judgement(None, order * variety / 100))
        return found

    def determinants(self, trait: Trait) -> dict[str, Any]:
        """What its scores depend on besides the texts."""
        return {"judge": "perplexity", **reference_settings(self.model, trait)}


class JoinedJudge:
    """The trait score of one judge, and the coherence of another where the first gives none.

    Args:
        judge: scores the trait, and coherence or not.
        coherence: asked for the coherence of answers that have none yet.
    """

    def __init__(self, judge: Judge, coherence: Judge) -> None:
        self.trait_judge = judge
        self.coherence_judge = coherence
        self.model = getattr(judge, "model", None) or getattr(coherence, "model", None)
        self.name = f"{judge.name}+{coherence.name}"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        found = one_each(self.trait_judge, trait, exchanges)
        lacking = [place for place, judgement in enumerate(found) if judgement.coherence is None]
        added = one_each(self.coherence_judge, trait, [exchanges[place] for place in lacking])
        for place, judgement in zip(lacking, added, strict=True):
            found[place] = Judgement(found[place].trait, judgement.coherence)
        return found

    def determinants(self, trait: Trait) -> list[Any]:
        """Those of both judges."""
        return [determinants(self.trait_judge, trait), determinants(self.coherence_judge, trait)]
