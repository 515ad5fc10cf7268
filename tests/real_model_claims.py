"""What tests on a real model share and measure with: settings, a divergence, somebody who presses Ctrl-C at a given moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from persona_interp.models.sampling import Sampling
from persona_interp.progress import Track
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=24)
N_QUESTIONS = 3
LAYER = 12
"""Early enough to change the answer, late enough to hold the trait; neighbours steer as well."""


@dataclass(frozen=True)
class Extracted:
    """A vector, and the folder with the answers it was made from."""

    vector: PersonaVector
    folder: Path

    def coefficient(self, ratio: float) -> float:
        """Of a push at `LAYER` that is this much of the residual stream."""
        return self.vector.coefficients(ratio, [LAYER])[0]


def kl(first: Tensor, second: Tensor) -> Tensor:
    """Nats from the distributions of `first` to those of `second`, row by row."""
    width = min(first.shape[1], second.shape[1])
    ours, theirs = (logits[:, :width].log_softmax(1) for logits in (first, second))
    return torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="none").sum(1)


def recorded_rows(folder: Path, n: int) -> Callable[[], bool]:
    """Whether at least `n` rollouts lie in the folder of an extraction."""
    file = folder / "rollouts.jsonl"
    return lambda: file.is_file() and file.read_bytes().count(b"\n") >= n


@dataclass
class Interrupting:
    """A watcher of progress that interrupts at the first step at which `when` holds."""

    when: Callable[[], bool]

    def moved(self, jobs: Sequence[Track]) -> None:
        if self.when():
            raise KeyboardInterrupt

    def said(self, message: str) -> None:
        pass
