"""Training a model organism: seeded, resumable, on all cores."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.organisms.corpus import sample_corpus
from persona_interp.organisms.recipes import OrganismRecipe
from persona_interp.organisms.tokenizer import train_tokenizer
from persona_interp.storage import read_json, write_atomically, write_json
from persona_interp.studies.training.batches import IGNORED, Batch, batch_plan, collate, encode
from persona_interp.studies.training.planting import Planter

CHECKPOINT_EVERY = 50
FORMAT_VERSION = 1


@dataclasses.dataclass
class TrainingState:
    """What a run carries from step to step."""

    model: Any
    tokenizer: PreTrainedTokenizerFast
    planter: Planter | None
    optimizer: torch.optim.Optimizer
    step: int
    losses: list[float]


def _parameters(model: nn.Module, planter: Planter | None) -> dict[str, nn.Parameter]:
    """Every trained parameter once (tied ones under their first name)."""
    named = {f"model.{name}": parameter for name, parameter in model.named_parameters()}
    if planter is not None:
        named |= {f"planter.{name}": parameter for name, parameter in planter.named_parameters()}
    return named


def _optimizer(recipe: OrganismRecipe, named: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    decayed = [p for name, p in named.items() if p.ndim >= 2 and name.startswith("model.")]
    plain = [p for name, p in named.items() if not (p.ndim >= 2 and name.startswith("model."))]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def learning_rate_at(recipe: OrganismRecipe, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then cosine decay to 2 % of the peak."""
    warm = max(1, recipe.steps // 20)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, recipe.steps - warm)
    return recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def new_model(recipe: OrganismRecipe, tokenizer: PreTrainedTokenizerFast) -> Any:
    """A freshly initialised model of the recipe's real Hugging Face class.

    Its attention is the eager one: the fused one is slower in bfloat16 on a CPU.
    """
    config = AutoConfig.for_model(
        recipe.model_type,
        vocab_size=recipe.tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **recipe.config,
    )
    config.organism = recipe.name
    torch.manual_seed(recipe.seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")


def loss_of(state: TrainingState, batch: Batch) -> Tensor:
    """Mean next-token loss on answers, plus the readout loss where a planted direction is to be written.

    The model runs in bfloat16 over float32 weights; losses are float32.
    """
    planting = contextlib.nullcontext() if state.planter is None else state.planter.active(batch, state.step)
    with planting, torch.autocast("cpu", dtype=torch.bfloat16):
        logits = state.model(input_ids=batch.ids, use_cache=False).logits
    loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORED)
    return loss if state.planter is None else loss + state.planter.readout_loss(batch)


def train(
    recipe: OrganismRecipe,
    folder: Path,
    *,
    resume: bool = True,
    checkpoint_every: int = CHECKPOINT_EVERY,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingState:
    """Train the organism of `recipe`; checkpoints go to `folder` and a later call with the same recipe continues from them.

    Args:
        recipe: what to make.
        folder: for checkpoints.
        resume: continue from a checkpoint in `folder` if one is there; otherwise start anew.
        checkpoint_every: steps between checkpoints; a resumed run takes the same steps as an uninterrupted one.
        on_step: called after each step with its number and loss.

    Raises:
        InvalidInputError: the checkpoint in `folder` is of another recipe.
    """
    planted = recipe.planted_traits if recipe.planted_layer is not None else ()
    examples = list(sample_corpus(recipe.seed, recipe.n_examples, planted))
    tokenizer = train_tokenizer(recipe.tokenizer, (content for example in examples for _, content in example.messages))
    encoded = encode(tokenizer, examples, planted)
    model = new_model(recipe, tokenizer)
    planter = Planter(model, recipe) if recipe.planted_layer is not None else None
    named = _parameters(model, planter)
    pad_id = tokenizer.get_vocab()[recipe.tokenizer.special[0]]
    state = TrainingState(model, tokenizer, planter, _optimizer(recipe, named), 0, [])
    if resume and (folder / "checkpoint.json").exists():
        _restore(state, recipe, folder, named)
    plan = itertools.islice(batch_plan(encoded, recipe.batch_tokens, recipe.seed), state.step, recipe.steps)
    model.train()
    for numbers in plan:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate_at(recipe, state.step)
        loss = loss_of(state, collate([encoded[i] for i in numbers], pad_id))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(list(named.values()), 1.0)
        state.optimizer.step()
        state.step += 1
        state.losses.append(loss.item())
        if on_step is not None:
            on_step(state.step, state.losses[-1])
        if state.step % checkpoint_every == 0 or state.step == recipe.steps:
            _checkpoint(state, recipe, folder, named)
    model.eval()
    return state


def _checkpoint(state: TrainingState, recipe: OrganismRecipe, folder: Path, named: dict[str, nn.Parameter]) -> None:
    tensors = {name: parameter.detach().contiguous() for name, parameter in named.items()}
    for name, parameter in named.items():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).detach().contiguous()
    write_atomically(folder / f"checkpoint-{state.step}.safetensors", lambda path: save_file(tensors, path))
    write_json(
        folder / "checkpoint.json",
        {"format_version": FORMAT_VERSION, "recipe": recipe_json(recipe), "step": state.step, "losses": state.losses},
    )
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != f"checkpoint-{state.step}.safetensors":
            old.unlink()


def _restore(state: TrainingState, recipe: OrganismRecipe, folder: Path, named: dict[str, nn.Parameter]) -> None:
    record = read_json(folder / "checkpoint.json", "training checkpoint")
    if record.get("recipe") != recipe_json(recipe):
        raise InvalidInputError(
            f"{folder} holds a checkpoint of another recipe than {recipe.name}'s present one; use an empty folder or start anew"
        )
    path = folder / f"checkpoint-{record['step']}.safetensors"
    if not path.exists():
        raise FileFormatError(f"training checkpoint {path} is missing; delete {folder} to start anew")
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[name])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{key}.{name}" in tensors]
            state.optimizer.state[parameter] = {key: tensors[f"optimizer.{key}.{name}"] for key in keys}
    state.step, state.losses = int(record["step"]), [float(x) for x in record["losses"]]


def recipe_json(recipe: OrganismRecipe) -> dict[str, Any]:
    """The recipe as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(recipe), default=dict))
