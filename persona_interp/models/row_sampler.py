"""Sampling turned into an argmax, row by row: what a row draws does not depend on the rows beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.compile.readout import Readouts
from persona_interp.models.engines.protocol import OnStep, Step
from persona_interp.models.finite import check_scores
from persona_interp.models.sampling import Sampling


class RowSampler(LogitsProcessor):
    """Draws each row's token from its own seeded stream and leaves only that token possible, for a greedy loop to take.

    The distribution is shaped by the biases and the penalty, then by transformers' own warpers (temperature, top-k, top-p). The
    token is found by inverting the cumulative distribution at a uniform number: number s of row i depends on the row's seed and
    s alone, and a tiny difference in the logits, as padding makes one, changes the token only where it falls into the gap.

    Args:
        sampling: temperature 0 leaves the scores alone.
        seeds: one a row.
        on_step: called after each step with the places of the rows in their batch and what the step leaves possible for them: the
            largest score of a row is its token. It says which rows are over, none where it says nothing.
        end_id: what rows that are over go on with, so that the batch ends with the last of them; None: they just go on.
        model: how errors call it.
        dtype: of its weights, for errors.
    """

    # on the class: NDIF is sent functions with what their bodies name
    _uniform: Float[Tensor, "batch step"] | None
    _answers: Int[Tensor, "batch step"] | None
    _biased: Int[Tensor, " biased"] | None
    _biases: Float[Tensor, " biased"]

    def __init__(
        self,
        sampling: Sampling,
        seeds: Sequence[int],
        on_step: Callable[[Sequence[int], Float[Tensor, "batch vocab"]], Sequence[bool]] | None = None,
        end_id: int | None = None,
        model: str = "the model",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.on_step = on_step
        self._end_id = end_id
        self._over: Sequence[bool] = ()
        self._model, self._dtype = model, dtype
        self._places: Sequence[int] = range(len(seeds))
        self.most = sampling.max_new_tokens
        self._step = 0
        self._warpers: list[LogitsProcessor] = []
        self._uniform = None
        self._answers = None
        self._penalty = float(sampling.repetition_penalty)
        self._biased = torch.tensor(list(sampling.logit_bias), dtype=torch.long) if sampling.logit_bias else None
        self._biases = torch.tensor(list(sampling.logit_bias.values()), dtype=torch.float32)
        if sampling.temperature == 0:
            return
        self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k is not None:
            self._warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))
        if seeds:
            self._uniform = torch.stack([uniform_numbers(seed, sampling.max_new_tokens) for seed in seeds])

    def __call__(self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:  # type: ignore[override]
        """Scores with one finite entry a row, or all of them, biased and penalised, when greedy.

        Raises:
            PersonaInterpError: the model's scores are NaN or infinite, from which no token can be drawn.
            InvalidInputError: a bias of a token the model does not have.
        """
        check_scores(scores, f"new token {self._step + 1}", self._model, self._dtype)
        uniform = None if self._uniform is None else self._uniform[:, self._step]
        scores = self.chosen(scores, uniform, self._answers)
        if self._end_id is not None and any(self._over):
            over = torch.tensor(self._over, device=scores.device).unsqueeze(1)
            ended = torch.full_like(scores[:1], -torch.inf)
            ended[:, self._end_id] = 0.0
            scores = torch.where(over, ended, scores)
        if self._penalty != 1:  # kept here, since what stands before an answer may be pads
            taken = scores.argmax(dim=-1, keepdim=True)
            self._answers = taken if self._answers is None else torch.cat([self._answers.to(taken.device), taken], dim=1)
        self._step += 1
        if self.on_step is not None:
            self._over = self.on_step(self._places, scores)
        return scores

    def chosen(
        self,
        scores: Float[Tensor, "batch vocab"],
        uniform: Float[Tensor, " batch"] | None,
        answers: Int[Tensor, "batch step"] | None,
    ) -> Float[Tensor, "batch vocab"]:
        """What a step leaves possible: scores with one finite entry a row, or all of them, biased and penalised, when greedy.

        Args:
            scores: of the step.
            uniform: the numbers its tokens are drawn with; None: greedy.
            answers: tokens drawn before, None where there are none or nothing is penalised.

        Raises:
            InvalidInputError: a bias of a token the model does not have.
        """
        if self._biased is not None:
            if (largest := int(self._biased.max())) >= scores.shape[1]:
                raise InvalidInputError(
                    f"logit_bias names token {largest}, but the model has tokens 0 to {scores.shape[1] - 1}: make the biases "
                    "with this model's tokenizer"
                )
            biases = self._biases.to(scores).expand(len(scores), -1)
            scores = scores.index_add(1, self._biased.to(scores.device), biases)
        if self._penalty != 1 and answers is not None:
            held = answers.to(scores.device)
            seen = scores.gather(1, held)
            scores = scores.scatter(1, held, torch.where(seen > 0, seen / self._penalty, seen * self._penalty))
        if uniform is not None:
            warped = scores.float()
            for warper in self._warpers:
                warped = warper(cast(torch.LongTensor, None), warped)
            drawn = draw(warped, uniform.to(_uniform_dtype(scores.device), copy=False).to(scores.device))
            scores = torch.full_like(scores, -torch.inf).scatter(1, drawn.unsqueeze(1), 0.0)
        return scores

    def for_rows(self, rows: Sequence[int]) -> RowSampler:
        """A sampler of some rows alone, which draw what they would have drawn among the others; nothing may be drawn yet."""
        part = copy.copy(self)
        part._places = [self._places[row] for row in rows]
        if self._uniform is not None:
            part._uniform = self._uniform[list(rows)]
        return part


def uniform_numbers(seed: int, n: int) -> Float[Tensor, " step"]:
    """The numbers a row with this seed draws its tokens with, one a step."""
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def telling(on_step: OnStep | None, readouts: Readouts) -> Callable[[Sequence[int], Tensor], Sequence[bool]] | None:
    """`on_step` as a `RowSampler` calls it."""
    if on_step is None:
        return None
    return lambda rows, scores: on_step(Step(rows, lambda: scores.argmax(dim=-1).tolist(), readouts.result))


def drawn_up_to(ids: Sequence[int], end_ids: Collection[int]) -> Sequence[int]:
    """`ids` up to the first that ends an answer, all of them if none does."""
    return ids[: next((place + 1 for place, token in enumerate(ids) if token in end_ids), len(ids))]


def draw(scores: Float[Tensor, "batch vocab"], uniform: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """The token at which the cumulative probability of each row first exceeds its uniform number, never an impossible one."""
    cumulative = torch.softmax(scores, dim=-1, dtype=uniform.dtype).cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()  # 1 only up to rounding
    last = torch.searchsorted(cumulative, total)  # what follows has no probability; a number rounded to 1 would fall there
    return torch.searchsorted(cumulative, uniform.unsqueeze(1) * total, right=True).minimum(last).squeeze(1)


def _uniform_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple GPUs have no double precision
