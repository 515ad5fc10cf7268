"""What tests on a real model measure with: a divergence, and somebody who presses Ctrl-C at a given moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from persona_interp.progress import Track


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
