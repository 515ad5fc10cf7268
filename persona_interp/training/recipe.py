"""How a model is finetuned, and what is done meanwhile so that it does not take on a trait of its data. Plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.jsonl_store import content_key
from persona_interp.records import Record
from persona_interp.shapes import Direction


@dataclass(frozen=True)
class FinetuneRecipe(Record):
    """LoRA on every linear map of the blocks.

    Attributes:
        epochs: passes over the data.
        learning_rate: of AdamW, constant after a tenth of the steps.
        batch_size: rows a step and pass.
        accumulation: passes a step.
        rank: of the adapter; its scale is 2.
        seed: of the adapter's first values and of the order of the data.
        gradient_checkpointing: run blocks again for their gradients, for less memory.
        checkpoint_every: steps between checkpoints: what an interruption costs at most.

    Raises:
        InvalidInputError: a value that is out of range.
    """

    json_kind = "finetuning recipe"

    epochs: int = 3
    learning_rate: float = 5e-4
    batch_size: int = 8
    accumulation: int = 1
    rank: int = 8
    seed: int = 0
    gradient_checkpointing: bool = False
    checkpoint_every: int = 25

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "rank", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} of a finetuning is {getattr(self, name)}: give at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidInputError(f"the learning rate is {self.learning_rate}: give a number above 0, such as 5e-4")


@dataclass(frozen=True)
class Safeguards:
    """What keeps a finetuning from taking on a trait of its data. None of them: a plain finetuning.

    Attributes:
        prevent: is written while gradients are taken (`preventing`): preventative steering, or with `Ablate` the ablation of a
            direction at every step.
        project: block -> direction along which that block's adapters may write nothing: gradients and weights are projected at
            every step.
        keep_close: weight of the KL divergence from the base model on `neutral` texts, in nats a token.
        neutral: those texts, or pairs of a prompt and an answer.
        inoculation: a system prompt that asks for the trait while training, and is not there afterwards.

    Raises:
        InvalidInputError: `keep_close` without texts or texts without it, or together with `prevent`, which the base model is not
            under.
    """

    prevent: InterventionGraph | None = None
    project: Mapping[int, Direction] = field(default_factory=dict[int, Direction])
    keep_close: float = 0.0
    neutral: tuple[str | tuple[str, str], ...] = ()
    inoculation: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.keep_close) and self.keep_close >= 0) or bool(self.keep_close) != bool(self.neutral):
            raise InvalidInputError(
                f"keep_close is {self.keep_close} with {len(self.neutral)} neutral texts: give a weight above 0 together with "
                "texts on which the model is to stay as it is, or neither"
            )
        if self.keep_close and self.prevent is not None:
            raise InvalidInputError("prevent and keep_close were both given, and would pull against each other: give one of them")

    def to_json(self) -> dict[str, Any]:
        """What was done, in short: graphs and texts as their fingerprints."""
        return {
            "prevent": None if self.prevent is None else self.prevent.fingerprint(),
            "project": {str(layer): content_key(each.tolist()) for layer, each in sorted(self.project.items())},
            "keep_close": self.keep_close,
            "neutral": content_key(list(self.neutral)) if self.neutral else None,
            "inoculation": self.inoculation,
        }
