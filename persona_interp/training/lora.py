"""An adapter beside the weights of a model, which stay the user's and stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError, missing_extra
from persona_interp.models.adapters import adapter_settings
from persona_interp.models.catalogue import find_model
from persona_interp.models.families import layout_of
from persona_interp.models.second_tree import second_tree
from persona_interp.models.steerable import SteerableModel
from persona_interp.shapes import Direction


def check_trainable(model: SteerableModel) -> None:
    """Raise unless an adapter can be trained beside the weights of `model`.

    Raises:
        MissingExtraError: the extra ``train`` is not installed.
        UnsupportedError: the weights are not here, quantized files in llama.cpp, or carry an adapter already.
    """
    if find_spec("peft") is None or find_spec("accelerate") is None:
        raise missing_extra("finetuning", "train")
    if model.hf_model is None or any(parameter.is_meta for parameter in model.hf_model.parameters()):
        raise UnsupportedError(
            f"{model.name} cannot be trained: its weights are not in PyTorch on this machine. Load it with engine='torch'"
        )
    if adapter_settings(model.hf_model):
        raise UnsupportedError(f"{model.name} has an adapter beside its weights already: merge it first (merge_and_unload())")


@contextmanager
def with_lora(model: SteerableModel, rank: int, seed: int) -> Iterator[Any]:
    """A ``PeftModel`` over the very weights of `model`, with a new adapter on every linear map of its blocks.

    The modules are others, so `model` runs as before; which of its parameters ask for gradients is put back at the end.
    """
    from peft import LoraConfig, get_peft_model

    wanted = {name: parameter.requires_grad for name, parameter in model.hf_model.named_parameters()}
    tree = second_tree(model.hf_model)
    if getattr(tree, "is_quantized", False) and getattr(tree, "hf_quantizer", None) is None:
        tree.is_quantized = False  # weights that a GGUF file held so, and that are plain numbers since
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=_transposed(tree)
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft: Any = get_peft_model(tree, config)
        peft.peft_config["default"].base_model_name_or_path = _base_name(model)
        yield peft
    finally:
        for name, parameter in model.hf_model.named_parameters():
            parameter.requires_grad_(wanted[name])


class WriteProjection:
    """Keeps the adapters of some blocks from writing along a direction into the residual stream.

    An adapter's last matrix, of a linear map whose output is added to the stream, has a column space; what of it lies along the
    direction is taken out, from the gradients before each step and from the weights after it (an optimizer that scales each
    entry by itself would bring it back otherwise).

    Raises:
        UnsupportedError: nothing is known of where the architecture writes to its residual stream.
    """

    def __init__(self, peft: Any, directions: Mapping[int, Direction]) -> None:
        base = peft.base_model.model
        layout = layout_of(base.config)
        if layout.stream_use is None:
            raise UnsupportedError(
                f"the writes of a {layout.model_type} cannot be projected: nothing is known of where it reads and writes its "
                "residual stream. Prevent with a graph of Ablate instead"
            )
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for layer, direction in directions.items():
            block = base.get_submodule(f"{layout.blocks}.{layer}")
            for path in layout.stream_use.writes:
                weight = block.get_submodule(path).lora_B["default"].weight
                unit = nn.functional.normalize(direction.to(weight), dim=0)
                self._pairs.append((weight, unit))

    def gradients(self) -> None:
        """Take the direction out of the gradients."""
        for weight, unit in self._pairs:
            if weight.grad is not None:
                weight.grad -= torch.outer(unit, unit @ weight.grad)

    def weights(self) -> None:
        """Take the direction out of the weights."""
        with torch.no_grad():
            for weight, unit in self._pairs:
                weight -= torch.outer(unit, unit @ weight)


def _transposed(tree: nn.Module) -> bool:
    """Whether its linear maps are those of GPT-2, whose weights lie the other way round."""
    return any(type(module).__name__ == "Conv1D" for module in tree.modules())


def _base_name(model: SteerableModel) -> str:
    """What `load_model` finds the base model by: its name, else the folder it was loaded from."""
    from persona_interp.errors import PersonaInterpError

    try:
        find_model(model.name)
    except PersonaInterpError:
        return str(getattr(model.config, "name_or_path", "") or model.name)
    return model.name
