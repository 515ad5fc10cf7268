"""vLLM's own loader, and forward hooks on the blocks of what it has loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader  # pyright: ignore[reportMissingImports]

from persona_interp.errors import UnsupportedError
from persona_interp.models.engines.vllm.block_op import at_block
from persona_interp.models.engines.vllm.steering import TokenSteering
from persona_interp.models.families import layout_of, text_config


class SteerableLoader(DefaultModelLoader):
    """Loads as vLLM's ``load_format="auto"`` does."""

    def __init__(self, load_config: Any) -> None:
        super().__init__(replace(load_config, load_format="auto"))

    def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> nn.Module:
        """The model with hooks on its blocks, which do nothing until a worker follows it."""
        model = super().load_model(vllm_config, model_config, prefix)
        if not prefix:  # not a draft model beside it
            make_steerable(model, model_config.hf_config)
        return model


def make_steerable(model: nn.Module, config: Any) -> TokenSteering:
    """Put a hook on each block of a vLLM model, and one in front of the whole.

    Raises:
        UnsupportedError: vLLM's class of this architecture has no blocks where Hugging Face's has them.
    """
    layout, n_layers = layout_of(config), int(text_config(config).num_hidden_layers)
    try:
        blocks: Any = model.get_submodule(layout.blocks)
    except AttributeError as error:
        raise UnsupportedError(
            f"{type(model).__name__} of vLLM has no {layout.blocks}: this architecture is not steered"
        ) from error
    if len(blocks) != n_layers:
        raise UnsupportedError(f"{layout.blocks} has {len(blocks)} modules for {n_layers} blocks: run it without pipeline stages")
    steering = TokenSteering(n_layers, next(model.parameters()).device)
    vars(model)["persona_steering"] = steering
    model.register_forward_pre_hook(lambda _module, _args: steering.begin())
    for layer, block in enumerate(blocks):
        block.register_forward_hook(_hook(steering.number, layer))
    return steering


def _hook(number: int, layer: int) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            at_block(output, None, number, layer)
        else:
            at_block(output[0], output[1], number, layer)

    return hook
