"""Log probabilities of given tokens from what the unembedding is given, a slice of positions at a time.

Where a vocabulary is large, logits at every answer position outweigh all else that a forward makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

SLICE = 2**26
"""Bytes of logits, in float32, that are in memory together."""

Head: TypeAlias = Callable[[Tensor], Tensor]
"""From the normed stream ``[pos d_model]`` to the logits ``[pos vocab]``."""


def capped_head(module: nn.Module, cap: float | None) -> Head:
    """The unembedding `module`, with logits kept within `cap` as Gemma 2 does it, if there is a cap."""

    def head(states: Tensor) -> Tensor:
        logits = module(states)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return head


def answer_states(hidden: Float[Tensor, "batch kept d_model"], answers: Sequence[Sequence[int]]) -> Float[Tensor, "pos d_model"]:
    """The states that predict the answers, which the last positions of each row do, row after row."""
    return torch.cat([hidden[row, hidden.shape[1] - len(answer) :] for row, answer in enumerate(answers)])


def token_log_probs(
    head: Head, states: Float[Tensor, "pos d_model"], ids: Sequence[int], vocab_size: int
) -> Float[Tensor, " pos"]:
    """The log probability of each id from the state that predicts it, float32."""
    found = [chosen_log_probs(head(states[part]), ids[part]) for part in _slices(len(ids), vocab_size)]
    return torch.cat(found) if found else states.new_zeros(0, dtype=torch.float32)


def log_prob_gradients(
    head: Head, states: Float[Tensor, "pos d_model"], ids: Sequence[int], vocab_size: int
) -> Float[Tensor, "pos d_model"]:
    """How each of the `token_log_probs` changes with its own state. Nothing of it is kept for a later backward pass."""
    slopes: list[Tensor] = []
    for part in _slices(len(ids), vocab_size):
        with torch.enable_grad():
            leaf = states[part].detach().requires_grad_()
            slopes += torch.autograd.grad(chosen_log_probs(head(leaf), ids[part]).sum(), leaf)
    return torch.cat(slopes)


def chosen_log_probs(logits: Float[Tensor, "pos vocab"], ids: Sequence[int] | Int[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """The log probability of one id at each position, float32."""
    scores = logits.float()
    index = torch.as_tensor(ids, device=scores.device).unsqueeze(1)
    return scores.gather(1, index).squeeze(1) - scores.logsumexp(dim=1)


def answer_log_probs(logits: Float[Tensor, "kept vocab"], answer_ids: Sequence[int]) -> Float[Tensor, " n_answer"]:
    """Log probabilities of the answer ids, which the last positions predict, on the CPU."""
    if not answer_ids:
        return torch.zeros(0)
    return chosen_log_probs(logits[-len(answer_ids) :], answer_ids).cpu()


def _slices(n: int, vocab_size: int) -> Iterator[slice]:
    size = max(1, SLICE // (4 * vocab_size))
    return (slice(start, start + size) for start in range(0, n, size))
