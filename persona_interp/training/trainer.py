"""transformers' Trainer as finetuning here uses it: safeguards at each step, progress, and no step on what is no loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

from persona_interp.errors import PersonaInterpError
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.progress import Track
from persona_interp.training.lora import WriteProjection
from persona_interp.training.recipe import FinetuneRecipe
from persona_interp.training.rows import collated

_CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")  # renamed in transformers 5.23


class GuardedTrainer(Trainer):
    """A Trainer whose loss may hold the model near its base on neutral texts.

    Attributes:
        neutral: rows to stay close on.
        keep_close: what their KL divergence counts.
        pad_id: of the batches.
        losses: of each pass, without the divergence.
    """

    neutral: Sequence[TokenisedAnswer] = ()
    keep_close: float = 0.0
    pad_id: int = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.losses: list[float] = []

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The language model's loss, and the divergence where it is wanted.

        Raises:
            PersonaInterpError: the loss is NaN or infinite.
        """
        loss: Any = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        self.losses.append(float(loss.detach()))
        if self.keep_close:
            share = 1 if num_items_in_batch is None else self.args.gradient_accumulation_steps
            loss = loss + self.keep_close * self._divergence(model) / share
        if not bool(torch.isfinite(loss)):
            raise PersonaInterpError(
                f"the loss is {float(loss.detach())} at step {self.state.global_step + 1}: lower the learning rate "
                f"({self.args.learning_rate}), or load the model in float32; what was trained before is not touched"
            )
        return loss

    def _divergence(self, model: Any) -> Tensor:
        """KL of the model from its base, nats a token, over texts drawn anew at each step."""
        drawn = random.Random(f"{self.args.seed}/{self.state.global_step}")
        rows = drawn.sample(list(self.neutral), min(len(self.neutral), self.args.per_device_train_batch_size))
        batch = {name: value.to(self.args.device) for name, value in collated(rows, self.pad_id).items() if name != "labels"}
        with torch.no_grad(), model.disable_adapter():
            base = model(**batch, use_cache=False).logits
        real = batch["attention_mask"].bool()
        own = model(**batch, use_cache=False).logits[real]
        return F.kl_div(
            F.log_softmax(own.float(), -1), F.log_softmax(base[real].float(), -1), reduction="batchmean", log_target=True
        )


class EachStep(TrainerCallback):
    """Tells how far training is, and projects at each step where that is wanted."""

    def __init__(self, bar: Track, projection: WriteProjection | None) -> None:
        self._bar, self._projection = bar, projection

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before a step: gradients."""
        if self._projection is not None:
            self._projection.gradients()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After it: weights."""
        if self._projection is not None:
            self._projection.weights()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell."""
        self._bar.to(state.global_step)


def training_arguments(folder: Path, recipe: FinetuneRecipe, *, n_steps: int, on_cpu: bool) -> TrainingArguments:
    """The Trainer's settings: checkpoints in `folder`, nothing sent anywhere, nothing printed."""
    checkpointing: dict[str, Any] = {}
    if recipe.gradient_checkpointing:
        name = next(name for name in _CHECKPOINTING if name in TrainingArguments.__dataclass_fields__)
        checkpointing = {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        str(folder),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        seed=recipe.seed,
        warmup_steps=max(1, n_steps // 10),
        lr_scheduler_type="constant_with_warmup",
        save_strategy="steps",
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=on_cpu,
        **checkpointing,
    )
