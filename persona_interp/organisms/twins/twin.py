"""`make_twin`: a fresh model that computes what another computes, with a known change of its residual stream."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.families import FamilyLayout, StreamUse
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.inference import inference_only
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.twins.recipe import TwinRecipe
from persona_interp.organisms.twins.stream import (
    change_stream,
    keep_index_scaling,
    make_identity,
    random_rotation,
    stream_of,
)
from persona_interp.provenance import provenance
from persona_interp.shapes import Direction
from persona_interp.storage import check_format_version, read_json, write_folder_atomically, write_json

FORMAT_VERSION = 1
RECORD = "twin.json"
"""The file of a saved twin that says how it was made; no loader needs it."""

_TOKENS_COMPARED = 16


@dataclass(frozen=True, eq=False)
class Twin:
    """A model that computes what `source` computes.

    At every original block, ``twin residual = scale * rotation @ source residual``; an identity block hands on what it gets.

    Attributes:
        source: the original model.
        recipe: what was changed.
        hf_model: the twin, a model of its own.
        tokenizer: the original's.
        rotation: orthogonal, float64, on the CPU; None where the basis is the original's.
    """

    source: ModelIdentity
    recipe: TwinRecipe
    hf_model: Any
    tokenizer: Any
    rotation: Float[Tensor, "d_model d_model"] | None

    @property
    def identity_blocks(self) -> tuple[int, ...]:
        """Indices, in the twin, of the inserted blocks."""
        return tuple(new for new, (_, inserted) in enumerate(self.recipe.origins(self.source.n_layers)) if inserted)

    def layer_of(self, original_index: int) -> int:
        """Where the original's block is in the twin.

        Raises:
            InvalidInputError: the original has no such block.
        """
        self._check_layer(original_index)
        return self.recipe.origins(self.source.n_layers).index((original_index, False))

    def expected(self, direction: Direction, layer: int) -> Direction:
        """What a direction of the original's block `layer` is at the twin's block ``layer_of(layer)``, in float64.

        Adding it there does what adding `direction` does in the original. It is the same for all layers.

        Raises:
            InvalidInputError: the original has no such block, or is of another width.
        """
        self._check_layer(layer)
        if direction.shape != (self.source.d_model,):
            raise InvalidInputError(
                f"a direction of width {direction.shape[0]} is none of {self.source.name}, whose residual stream has width "
                f"{self.source.d_model}"
            )
        value = direction.detach().to(device="cpu", dtype=torch.float64)
        return self.recipe.scale * (value if self.rotation is None else self.rotation @ value)

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.source.n_layers:
            raise InvalidInputError(f"{self.source.name} has no block {layer}: it has blocks 0 to {self.source.n_layers - 1}")


def make_twin(model: SteerableModel | nn.Module, recipe: TwinRecipe, *, tokenizer: Any = None) -> Twin:
    """Make a twin of a pre-norm model: llama, mistral, qwen2, qwen3, or gpt2, whose rotations keep the mean direction.

    The twin's logits are the model's, up to the rounding of float32, in which it is held whatever the model is held in: half
    precision would round a rotated matrix anew. A few tokens are compared before it is given back. `model` is not changed.

    What happens to the weights: with a rotation, gains (and biases) of norms move into the matrices behind them, and all that
    reads or writes the residual stream is rotated; with a scale, all that writes is multiplied, epsilon with its square, and so
    are Qwen3's query and key matrices, whose norms share that epsilon. Tied embeddings are untied by both. Identity blocks are
    copies of their neighbour whose output matrices are zero.

    Example:
        >>> twin = make_twin(load_model("organism-qwen2"), TwinRecipe(rotation_seed=0, scale=3.0, inserted=(2, 2)))
        >>> twin.layer_of(4), twin.expected(direction, 4)   # where and what `direction` of block 4 is in the twin
        >>> model = load_model(save_twin(twin, "qwen2-twin"))

    Args:
        model: the original.
        tokenizer: the original's, where `model` is a bare Hugging Face model.

    Raises:
        UnsupportedError: the family has no exact twin (the message says why), or its weights are quantized or not at hand.
        InvalidInputError: a block to insert before does not exist; a tokenizer is missing, or one too many.
    """
    if not isinstance(model, SteerableModel):
        model = load_model(model, tokenizer=tokenizer)
    elif tokenizer is not None:
        raise InvalidInputError(f"{model.name} has its tokenizer already: leave tokenizer out")
    use = stream_of(model.config, model.name)
    _check_weights(model.hf_model, model.name)
    origins = recipe.origins(model.n_layers)
    rotation = None
    if recipe.rotation_seed is not None:
        rotation = random_rotation(model.d_model, recipe.rotation_seed, keeps_mean=use.keeps_mean)
    twin = _with_blocks(model.hf_model, _config(model, recipe, use), model.layout, origins)
    if rotation is not None or recipe.scale != 1:
        change_stream(twin, model.layout, use, rotation, recipe.scale)
    blocks = twin.get_submodule(model.layout.blocks)
    for new, (old, identity) in enumerate(origins):
        if identity:
            make_identity(blocks[new], use)
        else:
            keep_index_scaling(blocks[new], twin.config, old=old, new=new)
    twin.to(model.device)
    _check_logits(model, twin)
    return Twin(model.identity, recipe, twin, model.tokenizer, rotation)


def save_twin(twin: Twin, folder: str | Path) -> Path:
    """Save an ordinary checkpoint with its tokenizer, and ``twin.json``: the recipe, the original, and how it was made.

    Args:
        folder: new, or empty. It appears whole or not at all.

    Raises:
        InvalidInputError: `folder` holds something.
        PersonaInterpError: `folder` cannot be written.
    """
    from safetensors import SafetensorError

    def write(target: Path) -> None:
        try:
            twin.hf_model.save_pretrained(target)
            twin.tokenizer.save_pretrained(target)
        except SafetensorError as error:
            raise PersonaInterpError(f"cannot write the weights into {target.parent}: {error}. Is there space left?") from error
        record = {
            "format_version": FORMAT_VERSION,
            "recipe": twin.recipe.to_json(),
            "source": twin.source.to_json(),
            "provenance": provenance(),
        }
        write_json(target / RECORD, record)

    return write_folder_atomically(Path(folder), write)


def read_recipe(folder: str | Path) -> TwinRecipe:
    """The recipe of a saved twin.

    Raises:
        FileFormatError: the folder has no ``twin.json``, or it is of another format.
    """
    path = Path(folder) / RECORD
    data = read_json(path, "record of a twin")
    check_format_version(data, FORMAT_VERSION, str(path))
    return TwinRecipe.from_json(data.get("recipe") or {}, source=str(path))


def _check_weights(hf_model: Any, name: str) -> None:
    parameters = list(hf_model.parameters())
    if any(parameter.is_meta for parameter in parameters):
        what = "are not in memory: load it here, without offloading"
    elif getattr(hf_model.config, "quantization_config", None) is not None or not all(p.is_floating_point() for p in parameters):
        what = "are quantized: load it without quantization"
    else:
        return
    raise UnsupportedError(f"{name} has no exact twin: its weights {what}")


def _config(model: SteerableModel, recipe: TwinRecipe, use: StreamUse) -> Any:
    """The original's configuration, as the twin needs it."""
    config = copy.deepcopy(model.config)
    origins = recipe.origins(model.n_layers)
    config.num_hidden_layers = len(origins)
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = [config.layer_types[old] for old, _ in origins]
    setattr(config, use.epsilon, getattr(config, use.epsilon) * recipe.scale**2)
    if recipe.scale != 1 or recipe.rotation_seed is not None:
        config.tie_word_embeddings = False
    config.name_or_path = f"{model.name}-twin"  # else results would call it by the original's name
    return config


def _with_blocks(hf_model: Any, config: Any, layout: FamilyLayout, origins: tuple[tuple[int, bool], ...]) -> Any:
    """A model of `config` whose block i has the weights of block ``origins[i]`` of `hf_model`; float32 (or more), on the CPU."""
    with torch.random.fork_rng(devices=[]):  # the weights it starts with are random, and replaced
        made = type(hf_model)(config)
    state = hf_model.state_dict()
    prefix = f"{layout.blocks}."
    if any(value.dtype == torch.float64 for value in state.values()):
        made = made.double()
    config.dtype = made.dtype
    taken = {name: value for name, value in state.items() if not name.startswith(prefix)}
    for new, (old, _) in enumerate(origins):
        own = f"{prefix}{old}."
        taken |= {f"{prefix}{new}.{name.removeprefix(own)}": value for name, value in state.items() if name.startswith(own)}
    made.load_state_dict(taken)
    made.generation_config = copy.deepcopy(hf_model.generation_config)
    return made.eval()


def _check_logits(model: SteerableModel, twin: Any) -> None:
    """Raise UnsupportedError unless both give the same logits for a few tokens, up to the rounding of the original's dtype."""
    vocabulary = model.hf_model.get_input_embeddings().weight.shape[0]
    n_tokens = min(_TOKENS_COMPARED, model.n_ctx)
    ids = torch.linspace(0, vocabulary - 1, n_tokens, dtype=torch.float32, device=model.device).long().unsqueeze(0)
    with inference_only(model.hf_model), inference_only(twin):
        expected = model.hf_model(input_ids=ids, use_cache=False).logits.double()
        got = twin(input_ids=ids, use_cache=False).logits.double()
    difference, largest = float((got - expected).abs().max()), float(expected.abs().max())
    if not difference <= torch.finfo(model.dtype).eps ** 0.5 * max(largest, 1.0):
        raise UnsupportedError(
            f"{model.name} has no exact twin: its class ({type(model.hf_model).__name__}) does more than the family "
            f"{model.config.model_type!r} is known to do (logits differ by {difference:.2g}, the largest is {largest:.2g})"
        )
