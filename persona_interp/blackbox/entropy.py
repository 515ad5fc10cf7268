"""How random sampling parameters make the next token, and the plain temperature that makes it as random."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.blackbox.parameters import TEMPERATURES
from persona_interp.models.sampling import Sampling


def sampling_entropy(log_probs: Float[Tensor, "place vocab"], sampling: Sampling) -> float:
    """Mean entropy of the next token in nats, after temperature and top_p; penalties depend on an answer and are left out.

    Args:
        log_probs: of the model itself, at places of its answers.
        sampling: temperature above 0.
    """
    probabilities = (log_probs.double() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        ordered[ordered.cumsum(dim=-1) - ordered >= sampling.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, index, ordered)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return float(-(probabilities * probabilities.clamp_min(torch.finfo(torch.float64).tiny).log()).sum(dim=-1).mean())


def plain_temperature(log_probs: Float[Tensor, "place vocab"], sampling: Sampling) -> float:
    """The temperature that alone gives the entropy of `sampling`, by bisection within what parameters may be set to."""
    wanted = sampling_entropy(log_probs, sampling)
    low, high = TEMPERATURES
    for _ in range(40):
        middle = (low + high) / 2
        if sampling_entropy(log_probs, Sampling(temperature=middle)) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
