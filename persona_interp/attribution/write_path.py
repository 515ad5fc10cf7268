"""Where, in a TransformerLens bridge, the components of a model hand over what they write into the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.attribution.component import Component
from persona_interp.errors import UnsupportedError
from persona_interp.shapes import Direction

_FAR = 1e3
"""Length at which the epsilon of a norm no longer shows."""


@dataclass(frozen=True)
class BlockHooks:
    """The hook points of one block.

    Attributes:
        heads: ``[batch pos head d_head]``, what the heads hand to the output matrix.
        projected: ``[batch pos d_model]``, what that matrix makes of them, its bias included.
        attention: ``[batch pos d_model]``, what is added to the stream: `projected`, or that behind a norm.
        mlp: ``[batch pos d_model]``, what the MLP (or the experts) add, likewise behind its norm where there is one.
        resid: ``[batch pos d_model]``, the block's output.
    """

    heads: str
    projected: str
    attention: str
    mlp: str
    resid: str


class WritePath:
    """Everything that writes into the stream up to the output of block `layer`, in a bridge of TransformerLens 4.

    Gemma 2 and 3 and OLMo 2 put a norm between attention and the stream. Given its scale at a position, which is frozen there, it
    is linear, so that heads still add up exactly.

    Args:
        bridge: of `SteerableModel.bridge`.
        layer: 0-based block whose output is explained.
        name: how errors call the model.

    Raises:
        UnsupportedError: TransformerLens does not show heads and MLPs of a block, or an output matrix cannot be read (quantized).
    """

    def __init__(self, bridge: Any, layer: int, name: str) -> None:
        self.layer, self.name = layer, name
        self._blocks: list[Any] = [bridge.blocks[number] for number in range(layer + 1)]
        try:
            self.embedding: str = self._blocks[0].hook_in.name
            self.blocks: tuple[BlockHooks, ...] = tuple(map(_hook_points, self._blocks))
            self._weights = [block.attn.W_O for block in self._blocks]
        except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise UnsupportedError(
                f"TransformerLens does not show what each head and MLP of {name} writes ({error}): attribution needs blocks of "
                "attention and MLP with readable output matrices; load the model unquantized"
            ) from error
        for number, weight in enumerate(self._weights):
            if not isinstance(weight, Tensor) or weight.dim() != 3:
                shape = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
                raise UnsupportedError(
                    f"the output matrix of block {number} of {name} is {shape} in TransformerLens, not [head d_head d_model]: "
                    "its heads cannot be told apart"
                )

    @property
    def components(self) -> tuple[Component, ...]:
        """In the order of the stream: embedding, then for each block its heads, its bias if there is one, its MLP."""
        found = [Component("embedding")]
        for layer, weight in enumerate(self._weights):
            found += [Component("head", layer, head) for head in range(weight.shape[0])]
            found += [Component("bias", layer)] if self._bias(layer) is not None else []
            found.append(Component("mlp", layer))
        return tuple(found)

    def n_heads(self, layer: int) -> int:
        """Heads of one block."""
        return int(self._weights[layer].shape[0])

    def gain(self, layer: int) -> Direction | None:
        """What the norm between the attention of a block and the stream multiplies with; None where there is none."""
        norm = dict(self._blocks[layer].named_children()).get("ln1_post")
        if norm is None:
            return None
        weight = self._weights[layer]
        level = torch.full((1, 1, weight.shape[2]), _FAR, dtype=weight.dtype, device=weight.device)
        return norm.original_component(level)[0, 0].float()

    def read_heads(self, layer: int, direction: Direction) -> tuple[Float[Tensor, "head d_head"], float]:
        """What a dot product with gives each head's part of `direction`, and the part of the bias; before any norm's scale."""
        gain = self.gain(layer)
        weight = self._weights[layer].detach().float()
        along = direction.to(weight.device) if gain is None else direction.to(weight.device) * gain
        bias = self._bias(layer)
        return torch.einsum("hdm,m->hd", weight, along), 0.0 if bias is None else float(bias.detach().float() @ along)

    def _bias(self, layer: int) -> Tensor | None:
        bias = getattr(self._blocks[layer].attn.o, "bias", None)
        return bias if isinstance(bias, Tensor) else None


def _hook_points(block: Any) -> BlockHooks:
    # by their own names: several are known under aliases, which compatibility mode would call twice
    return BlockHooks(
        heads=block.attn.o.hook_in.name,
        projected=block.attn.o.hook_out.name,
        attention=block.hook_attn_out.name,
        mlp=block.hook_mlp_out.name,
        resid=block.hook_out.name,
    )
