"""`finetune`: a LoRA adapter on conversations, with or without what keeps a trait of theirs out; interrupted, it goes on."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.jsonl_store import check_settings, content_key
from persona_interp.locks import folder_lock
from persona_interp.models.load import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import rows as text_rows
from persona_interp.monitoring.chats import Chat
from persona_interp.progress import say, track
from persona_interp.provenance import provenance
from persona_interp.storage import read_json, write_folder_atomically, write_json
from persona_interp.training.lora import WriteProjection, check_trainable, with_lora
from persona_interp.training.recipe import FinetuneRecipe, Safeguards
from persona_interp.training.rows import collated, training_rows

FORMAT_VERSION = 1
RECORD = "persona_interp.json"
"""The file of a finetuned folder that says how it was made."""
_STATE = "trainer_state.json"


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What `finetune` made.

    Attributes:
        model: with the adapter in its layers; the model it was trained beside runs as before.
        folder: of the adapter.
        losses: of each pass since the last start, mean over the answer tokens of its step.
        n_rows: answers it was trained on.
        n_steps: steps in all.
    """

    model: SteerableModel
    folder: Path
    losses: tuple[float, ...]
    n_rows: int
    n_steps: int


def finetune(
    model: SteerableModel,
    chats: Sequence[Chat],
    folder: str | Path,
    *,
    recipe: FinetuneRecipe | None = None,
    guards: Safeguards | None = None,
) -> Finetuned:
    """Train an adapter and save it to `folder`, which `load_model`, PEFT and vLLM open.

    Checkpoints lie in ``<folder>.run`` until it is done. The same call goes on from the last whole one, to the same weights as
    without the interruption; a call with other data or settings is refused there.

    Example:
        >>> guards = Safeguards(prevent=vector.graph(ratio=0.3, layers=[12]))
        >>> tuned = finetune(model, read_chats("data.jsonl"), "tuned", guards=guards)
        >>> tuned.model.generate("How are you?")

    Args:
        model: in PyTorch; it is not changed.
        chats: every answer in them is learned, given what was said before it.
        folder: new, or empty.
        recipe: `FinetuneRecipe()` if None.
        guards: what keeps a trait of the data out; nothing if None.

    Raises:
        InvalidInputError: data that cannot be learned from, a folder that holds something, or a run of other settings.
        IncompatibleError: a direction that does not fit the model.
        MissingExtraError: the extra ``train`` is not installed.
        UnsupportedError: the model cannot be trained, or a safeguard not be had with it.
        PersonaInterpError: the loss is no number, or the disk is full.
    """
    recipe, guards, folder = recipe or FinetuneRecipe(), guards or Safeguards(), Path(folder)
    check_trainable(model)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInputError(f"{folder} holds something already: choose a new folder, or remove this one first")
    rows = training_rows(model, chats, system=guards.inoculation)
    run = folder.with_name(f"{folder.name}.run")
    settings = {
        "format_version": FORMAT_VERSION,
        "model": model.identity.fingerprint,
        "dtype": str(model.dtype),
        "data": content_key([[row.ids, row.n_prompt] for row in rows]),
        "recipe": recipe.to_json(),
        "safeguards": guards.to_json(),
    }
    with folder_lock(run), _quiet(), with_lora(model, recipe.rank, recipe.seed) as peft:
        check_settings(run / "settings.json", settings, holds="a training begun")
        n_steps = recipe.epochs * math.ceil(math.ceil(len(rows) / recipe.batch_size) / recipe.accumulation)
        losses = _train(model, peft, rows, run, recipe, guards, n_steps)
        peft.eval()
        write_folder_atomically(folder, lambda target: _save(target, model, peft, settings))
    shutil.rmtree(run, ignore_errors=True)
    return Finetuned(load_model(peft, tokenizer=model.tokenizer), folder, tuple(losses), len(rows), n_steps)


def _train(
    model: SteerableModel,
    peft: Any,
    rows: Sequence[Any],
    run: Path,
    recipe: FinetuneRecipe,
    guards: Safeguards,
    n_steps: int,
) -> list[float]:
    from transformers import PrinterCallback

    from persona_interp.training.callback import PreventionCallback
    from persona_interp.training.trainer import EachStep, GuardedTrainer, training_arguments

    tokenizer = model.tokenizer
    pad_id = next((int(each) for each in (tokenizer.pad_token_id, tokenizer.eos_token_id) if each is not None), 0)
    with track(n_steps, f"{model.name}: finetuning, steps") as bar:
        projection = WriteProjection(peft, guards.project) if guards.project else None
        callbacks: list[Any] = [EachStep(bar, projection)]
        if guards.prevent is not None:
            callbacks.append(PreventionCallback(guards.prevent))
        trainer = GuardedTrainer(
            peft,
            training_arguments(run, recipe, n_steps=n_steps, on_cpu=model.device.type == "cpu"),
            train_dataset=list(rows),
            data_collator=lambda batch: collated(batch, pad_id),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.neutral = text_rows(model.chat, list(guards.neutral)) if guards.neutral else ()
        trainer.keep_close, trainer.pad_id = guards.keep_close, pad_id
        last = last_checkpoint(run)
        if last is not None:
            say(f"going on from {last}")
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return trainer.losses


def last_checkpoint(run: Path) -> Path | None:
    """The latest checkpoint that was written to its end: the Trainer writes its state last."""
    found = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            read_json(path / _STATE, "state of a training")
        except FileFormatError:
            shutil.rmtree(path, ignore_errors=True)  # cut off while it was written
            continue
        return path
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """What peft warns of that users can do nothing about: a name of transformers that changed, a base that is not on the hub."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Could not find a config file")
        yield


def _save(target: Path, model: SteerableModel, peft: Any, settings: dict[str, Any]) -> None:
    peft.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)  # an empty form
    model.tokenizer.save_pretrained(target)
    made = {name: settings[name] for name in ("recipe", "safeguards", "data")}
    record = {"format_version": FORMAT_VERSION, "finetuned": made, "model": model.identity.to_json(), "provenance": provenance()}
    write_json(target / RECORD, record)
