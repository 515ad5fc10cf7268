"""A vector of the residual stream read as a change of the next token's logits, in the model it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.blackbox.token_texts import TokenTexts
from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

LENS, SHIFT = "lens", "shift"
READINGS = (LENS, SHIFT)
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class TokenShift:
    """How much likelier a vector makes each token, at coefficient 1.

    Attributes:
        logits: natural units, over the vocabulary; 0 is what happens to the average token the model would write.
        probabilities: how likely each token is where nothing is steered, averaged over places of answers.
        reading: how it was had.
    """

    logits: Float[Tensor, " vocab"]
    probabilities: Float[Tensor, " vocab"]
    reading: str


class TokenLens:
    """Reads vectors of one model, at places of its own unsteered answers to some questions.

    Two readings, both per unit of coefficient:

    - ``lens``: what the vector becomes if it reaches the end of the model as it is: its product with the unembedding, the final
      norm's gain folded in, over the root mean square of the residual stream there (nostalgebraist's logit lens, of a direction
      instead of a state). Linear, and blind to whatever later blocks make of the vector.
    - ``shift``: the mean change of next-token log-probabilities when the model is steered at `step`, over `step`.

    Args:
        model: whose vectors are read.
        questions: asked to have answers; neutral ones.
        n_tokens: places of each answer.
        seed: of the answers.
        batch_size: rows run together.

    Raises:
        InvalidInputError: no question.
    """

    def __init__(
        self,
        model: SteerableModel,
        questions: Sequence[str],
        *,
        n_tokens: int = 16,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        if not questions or n_tokens < 1:
            raise InvalidInputError(f"{len(questions)} questions and {n_tokens} tokens of each answer: give at least one of each")
        self.model, self.batch_size = model, batch_size
        self._asked = [Conversation.ask(question) for question in questions]
        self._n_tokens, self._seed = n_tokens, seed

    @cached_property
    def texts(self) -> TokenTexts:
        """What the tokens of the model spell."""
        return TokenTexts(self.model.tokenizer, self.model.name)

    @cached_property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """The ids before each token of the unsteered answers."""
        sampling = Sampling(max_new_tokens=self._n_tokens)
        answers = self.model.generate(self._asked, sampling=sampling, seed=self._seed, batch_size=self.batch_size)
        return tuple(
            answer.prompt_ids + answer.answer_ids[:length] for answer in answers for length in range(len(answer.answer_ids))
        )

    @cached_property
    def log_probs(self) -> Float[Tensor, "place vocab"]:
        """Of the next token at every place, where nothing is steered."""
        return torch.cat([self._log_probs(some, None) for some in self._portions()])

    @cached_property
    def probabilities(self) -> Float[Tensor, " vocab"]:
        """Of each token where nothing is steered, averaged over the places."""
        return self.log_probs.exp().mean(0)

    @cached_property
    def final_norm(self) -> float:
        """Mean norm of what the final norm divides at the ends of the prompts; a LayerNorm takes the mean off first."""
        last = Capture("prompt_last", layers=(self.model.n_layers - 1,))
        rows = [self.model.chat.tokenise(asked, "") for asked in self._asked]
        found = self.model.capture(rows, InterventionGraph((last,)), batch_size=self.batch_size)
        return float(torch.stack([self._met(each[last][0].double()).norm() for each in found]).mean())

    @cached_property
    def _takes_mean_off(self) -> bool:
        ones = torch.ones(1, self.model.d_model, dtype=torch.float32)
        up, down = self.model.unembed(torch.cat([ones, -ones]))
        return bool(torch.allclose(up, down, rtol=1e-3, atol=1e-3))

    def _met(self, resid: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        return resid - resid.mean() if self._takes_mean_off else resid

    def read(
        self, vector: PersonaVector, *, layers: Sequence[int] | None = None, reading: str = LENS, step: float = 1.0
    ) -> TokenShift:
        """What steering with `vector` at `layers` (all of its own if None) does to the next token's logits.

        Args:
            vector: of the model.
            layers: where it would be added; the lens takes the sum.
            reading: ``lens`` or ``shift``.
            step: coefficient at which ``shift`` steers.

        Raises:
            InvalidInputError: an unknown reading, a step of 0, or a layer the vector does not have.
            IncompatibleError: the vector is not of a model of this shape.
            UnsupportedError: ``lens`` of a model whose unembedding cannot be used alone (llama.cpp, NDIF).
        """
        if reading not in READINGS:
            raise InvalidInputError(f"reading is {reading!r}, expected one of {', '.join(READINGS)}")
        if step == 0:
            raise InvalidInputError("step is 0, at which nothing shifts: give the coefficient you will use, for example 1")
        vector.check_fits(self.model.identity)
        chosen = vector if layers is None else vector.select(layers)
        logits = self._lens(chosen.directions.double().sum(0)) if reading == LENS else self._shift(chosen, step)
        return TokenShift(logits - (self.probabilities * logits).sum(), self.probabilities, reading)

    def _lens(self, direction: Float[Tensor, " d_model"]) -> Float[Tensor, " vocab"]:
        """Half the difference between pushing from 0 one way and the other, in which biases of norm and unembedding cancel."""
        direction = self._met(direction)
        size = float(direction.norm())
        if size == 0:
            return torch.zeros_like(self.probabilities)
        pushed = (direction * (self.final_norm / size)).float()  # as long as what the norm meets, so that its epsilon is small
        up, down = self.model.unembed(torch.stack([pushed, -pushed])).double()
        return (up - down).float() / 2 * (size / self.final_norm)

    def _shift(self, vector: PersonaVector, step: float) -> Float[Tensor, " vocab"]:
        graph = vector.graph(step, "all")
        total = torch.zeros_like(self.probabilities)
        for some in self._portions():
            total += (self._log_probs(some, graph) - self._log_probs(some, None)).sum(0)
        return total / len(self.places) / step

    def _portions(self) -> list[tuple[tuple[int, ...], ...]]:
        return [self.places[first : first + _AT_ONCE] for first in range(0, len(self.places), _AT_ONCE)]

    def _log_probs(self, ids: Sequence[Sequence[int]], graph: InterventionGraph | None) -> Float[Tensor, "place vocab"]:
        return self.model.next_token_logits(ids, graph=graph, batch_size=self.batch_size).log_softmax(-1)
