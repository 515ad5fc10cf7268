"""What a reproduction runs: models, pairs of them, traits, doses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

from persona_interp.errors import unknown_name
from persona_interp.models.sampling import Sampling

COEFFICIENTS = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0)
"""The range the claim about coherence is made over, and finer around 0."""
RATIOS = (-0.4, -0.2, 0.2, 0.4)
"""Perturbation ratios at which a carried vector is compared with the target's own."""


@dataclass(frozen=True)
class Preset:
    """A set of experiments.

    Attributes:
        name: of the preset.
        models: every one, in the order they are loaded; the first is the source where there is one source.
        pairs: (source, target) of every transfer.
        traits: names.
        judge: as `load_judge` takes it.
        samples: answers to each evaluation question under each condition.
        extraction_samples: answers to each instruction and question of an extraction.
        questions: evaluation questions asked; None: all.
        n_random: random directions of an evaluation.
        methods: alignments compared; controls are made for the first.
        sampling: of all answers.
        black_box: whether the first model is also steered as GGUF, from inside and by sampling alone.
    """

    name: str
    models: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    traits: tuple[str, ...]
    judge: str
    samples: int
    extraction_samples: int
    questions: int | None
    n_random: int
    methods: tuple[str, ...]
    sampling: Sampling
    black_box: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values, for records."""
        listed = {**asdict(self), "sampling": self.sampling.to_json(), "pairs": [list(pair) for pair in self.pairs]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in listed.items()}


_ORGANISMS = ("organism-qwen2", "organism-llama", "organism-mistral", "organism-gpt2")
_SOURCE, *_TARGETS = ("qwen2.5-7b-instruct", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3")

PRESETS = {
    "organisms": Preset(
        name="organisms",
        models=_ORGANISMS,
        pairs=tuple(permutations(_ORGANISMS, 2)),
        traits=("silly", "honest"),
        judge="grammar",
        samples=1,
        extraction_samples=1,
        questions=None,
        n_random=2,
        methods=("effects", "ridge"),
        sampling=Sampling(max_new_tokens=120),
        black_box=True,
    ),
    "paper": Preset(
        name="paper",
        models=(_SOURCE, *_TARGETS),
        pairs=tuple((_SOURCE, target) for target in _TARGETS),
        traits=("evil", "sycophantic", "hallucinating"),
        judge="auto",
        samples=2,
        extraction_samples=10,
        questions=None,
        n_random=2,
        methods=("effects", "ridge", "procrustes", "cca"),
        sampling=Sampling(max_new_tokens=256),
        black_box=False,
    ),
}
"""Name -> preset. ``paper`` is the brief's experiment: 7B models from the hub, on a GPU of 24 GB."""


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
