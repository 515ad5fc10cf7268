"""A judge for models that follow no rubric: which of two instructions makes the answer more likely?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.judges.surprise import answer_row
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import N_PAIRS, InstructionPair, Trait


class LikelihoodContrastJudge:
    """Scores an answer by how much likelier it is under the trait's positive instructions than under its negative ones.

    contrast = mean over the pairs of: mean per-token log p(answer | positive, question) - log p(answer | negative, question), in
    nats a token. score = 100 / (1 + exp(-contrast / scale)): 50 where both instructions explain the answer equally well, 73 at
    one `scale`, 95 at three. The end-of-turn token does not count, so that answers cut off by a limit compare with finished ones.

    It knows only what the judging model does with the instructions: compare scores of one model and trait with each other,
    not with rubric scores. Coherence is None. An empty answer has no score.

    Args:
        model: the judging model, never steered while it judges.
        scale: nats a token, > 0. The default suits instruction-tuned models of a few billion parameters only roughly.
        pairs: which of the trait's pairs of instructions it reads, by their places; None: all. For answers that were asked for
            under the others.

    Raises:
        InvalidInputError: `scale` is not a positive number, or there is no such pair.
    """

    def __init__(self, model: SteerableModel, *, scale: float = 0.1, pairs: Sequence[int] | None = None) -> None:
        if not (math.isfinite(scale) and scale > 0):
            raise InvalidInputError(f"scale is {scale}: give a positive number of nats a token")
        self.model = model
        if pairs is not None and (not pairs or not set(pairs) <= set(range(N_PAIRS))):
            raise InvalidInputError(f"pairs are {list(pairs)}: give places from 0 to {N_PAIRS - 1}, or None for all")
        self.scale = scale
        self.pairs = tuple(range(N_PAIRS) if pairs is None else pairs)
        self.name = f"contrast:{model.name}"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs."""
        judgements: list[Judgement] = []
        for contrast in self.contrasts(trait, exchanges):
            score = None if contrast is None else 50.0 * (1.0 + math.tanh(contrast / self.scale / 2))
            judgements.append(Judgement(trait=score, coherence=None))
        return judgements

    def contrasts(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[float | None]:
        """The contrast of each exchange in nats a token, None for an empty answer."""
        rows: list[TokenisedAnswer] = []
        places: list[tuple[int, float]] = []
        for index, (question, answer) in enumerate(exchanges):
            for pair in self._pairs(trait):
                for system, sign in ((pair.positive, 1.0), (pair.negative, -1.0)):
                    row = answer_row(self.model, question, answer, system)
                    if row.answer_ids:
                        rows.append(row)
                        places.append((index, sign / len(self.pairs)))
        totals: list[float | None] = [None] * len(exchanges)
        for (index, weight), likelihood in zip(places, self.model.log_likelihood(rows) if rows else [], strict=True):
            totals[index] = (totals[index] or 0.0) + weight * float(likelihood.token_log_probs.double().mean())
        return totals

    def _pairs(self, trait: Trait) -> list[InstructionPair]:
        return [trait.instructions[place] for place in self.pairs]

    def determinants(self, trait: Trait) -> dict[str, Any]:
        """What its scores depend on besides the texts."""
        pairs = [[pair.positive, pair.negative] for pair in self._pairs(trait)]
        return {"judge": "contrast", "model": self.model.identity.fingerprint, "scale": self.scale, "instructions": pairs}
