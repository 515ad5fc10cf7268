"""A layout is verified when a model is loaded: its parts exist, and its blocks hand on one residual stream."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.models.families import FamilyLayout, text_config
from persona_interp.models.inference import inference_only
from persona_interp.models.placement import token_device


def verified_blocks(hf_model: nn.Module, layout: FamilyLayout, model_name: str) -> list[nn.Module]:
    """The blocks of the model, after one forward of two tokens has shown that the layout fits.

    Raises:
        UnsupportedError: a component is missing, blocks are of different kinds, or a block's output is not one tensor
            ``[batch pos d_model]``; names the component and what to change.
    """
    for name in ("blocks", "embedding", "final_norm", "unembedding"):
        _component(hf_model, layout, name, model_name)
    blocks = list(_component(hf_model, layout, "blocks", model_name).children())
    if not blocks:
        raise UnsupportedError(
            f"{model_name}: {layout.blocks!r} of layout {layout.model_type!r} holds no blocks; correct `blocks`"
        )
    kinds = {type(block).__name__ for block in blocks}
    if len(kinds) > 1:
        raise UnsupportedError(
            f"{model_name}: its blocks are of different kinds ({', '.join(sorted(kinds))}), a layer would mean several things"
        )
    config: Any = hf_model.config
    d_model = int(text_config(config).hidden_size)
    for layer, output in enumerate(_block_outputs(hf_model, blocks)):
        if not isinstance(output, Tensor) or output.shape != (1, 2, d_model):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UnsupportedError(
                f"{model_name}: the output of block {layer} ({type(blocks[layer]).__name__}) is {got}, expected one tensor "
                f"[batch pos d_model], here (1, 2, {d_model}); this architecture needs an adapter before it can be steered"
            )
    return blocks


def _component(hf_model: nn.Module, layout: FamilyLayout, name: str, model_name: str) -> nn.Module:
    path = getattr(layout, name)
    try:
        return hf_model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedError(
            f"{model_name} ({type(hf_model).__name__}) has no module {path!r}, which layout {layout.model_type!r} names as its "
            f"{name}; print(model) shows the paths, correct the FamilyLayout"
        ) from error


def _block_outputs(hf_model: nn.Module, blocks: list[nn.Module]) -> list[Any]:
    """What each block returns for two tokens; the hooks are gone afterwards."""
    outputs: list[Any] = [None] * len(blocks)

    def keep(layer: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs[layer] = output

        return hook

    with ExitStack() as stack, inference_only(hf_model), uncompiled():
        for layer, block in enumerate(blocks):
            stack.callback(block.register_forward_hook(keep(layer)).remove)
        ids = torch.zeros(1, 2, dtype=torch.long, device=token_device(hf_model))
        # with a mask: without one, transformers looks at values for the seams of packed texts, and the meta device has none
        hf_model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return outputs
