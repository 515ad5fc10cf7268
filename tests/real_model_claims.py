"""What tests on a real model share and measure with: settings, a divergence, an extraction that is killed at a given moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from persona_interp.models.sampling import Sampling
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


_EXTRACTION = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[1:2]
from real import smollm2
from real_model_claims import N_QUESTIONS, SAMPLING

from persona_interp.traits.catalogue import load_trait
from persona_interp.vectors.extract import extract

trait = load_trait("silly")
extract(
    smollm2(), trait, judge=None, questions=trait.extraction_questions[:N_QUESTIONS], samples=1, sampling=SAMPLING,
    folder=Path(sys.argv[2]), batch_size=int(sys.argv[3]),
)
"""


def extracting(folder: Path, *, batch_size: int) -> list[str]:
    """A command that extracts silly from the real model, as the tests do."""
    return [sys.executable, "-W", "ignore", "-c", _EXTRACTION, str(Path(__file__).parent), str(folder), str(batch_size)]


def killed_while(command: Sequence[str], when: Callable[[], bool]) -> None:
    """Run a command, and end it by SIGKILL as soon as `when` holds."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not when():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
