"""What each block of a checkpoint does otherwise than the same block of its base model, given the same to work on.

Comparing residual streams alone cannot say where something was put in, because every later block carries it on. So each block of
the base model is run on what the checkpoint's block was run on, in the base model's basis, and the two outputs are compared: a
constant that was added to one block's output shows at that block alone, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.alignment.procrustes import Procrustes
from persona_interp.errors import IncompatibleError, UnsupportedError
from persona_interp.models.inference import inference_only
from persona_interp.models.steerable import SteerableModel

_SAME_BASIS, _ANY_BASIS = 0.05, 0.3
"""How much embeddings may differ, relative to their size, as they are and after the best rotation."""
_IDENTITY = 1e-5


@dataclass(frozen=True, eq=False)
class BlockChanges:
    """What `block_changes` found, in the base model's basis and scale.

    Attributes:
        own: what each block put out beyond what the base model's block makes of the same input.
        moved: what the residual stream behind each block is, beyond the base model's.
        resid: the base model's residual stream there.
        rotated: whether the checkpoint is in another basis.
        layers: the checkpoint's block that each of the base model's is compared with.
    """

    own: Float[Tensor, "layer token d_model"]
    moved: Float[Tensor, "layer token d_model"]
    resid: Float[Tensor, "layer token d_model"]
    rotated: bool
    layers: tuple[int, ...]


def block_changes(base: SteerableModel, checkpoint: SteerableModel, texts: Sequence[str]) -> BlockChanges:
    """Run both models on `texts`; the first token of each, which attention uses as a sink, is left out.

    A checkpoint in another basis or scale (a rotated twin) is brought back by what its embeddings say, and blocks that change
    nothing are left out.

    Raises:
        IncompatibleError: another tokenizer, width or depth, or embeddings that no rotation makes alike.
        UnsupportedError: a model that is not in PyTorch here.
    """
    for model in (base, checkpoint):
        if model.hf_model is None:
            raise UnsupportedError(f"{model.name} cannot be audited: it is not in PyTorch here; load it with engine='torch'")
    rows = [_ids(base, text) for text in texts]
    if rows != [_ids(checkpoint, text) for text in texts]:
        raise IncompatibleError(
            f"{checkpoint.name} and {base.name} make different tokens of the same text: they are of two models"
        )
    back, rotated = _to_base(base, checkpoint)
    own, moved, resid, kept = [], [], [], None
    for ids in (torch.tensor([row]) for row in rows if len(row) > 1):
        fed, out = _run(checkpoint, ids)
        blocks = [
            place
            for place, (x, y) in enumerate(zip(fed, out, strict=True))
            if float((y - x).norm()) > _IDENTITY * float(x.norm())
        ]
        if len(out) == base.n_layers:
            blocks = list(range(len(out)))
        if len(blocks) != base.n_layers:
            raise IncompatibleError(
                f"{checkpoint.name} has {len(blocks)} blocks that do something and {base.name} has {base.n_layers}: give the "
                "model that the checkpoint was made from"
            )
        kept = kept or tuple(blocks)
        theirs = [out[place] @ back for place in blocks]
        _, expected = _run(base, ids, [fed[place] @ back for place in blocks])
        _, plain = _run(base, ids)
        own.append(torch.stack([mine - yours for mine, yours in zip(theirs, expected, strict=True)])[:, 1:])
        moved.append(torch.stack([mine - yours for mine, yours in zip(theirs, plain, strict=True)])[:, 1:])
        resid.append(torch.stack(plain)[:, 1:])
    if kept is None:
        raise IncompatibleError(f"the texts leave {base.name} nothing to read: give texts of several words")
    return BlockChanges(torch.cat(own, dim=1), torch.cat(moved, dim=1), torch.cat(resid, dim=1), rotated, kept)


def _ids(model: SteerableModel, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])[: min(64, model.n_ctx)]


def _to_base(base: SteerableModel, checkpoint: SteerableModel) -> tuple[Float[Tensor, "d_model d_model"], bool]:
    """What brings the checkpoint's residual stream into the base model's basis and scale, and whether that is any other."""
    own, theirs = (model.hf_model.get_input_embeddings().weight.detach().cpu().double() for model in (base, checkpoint))
    if own.shape != theirs.shape:
        raise IncompatibleError(
            f"{checkpoint.name} has embeddings of shape {list(theirs.shape)} and {base.name} of {list(own.shape)}: give the "
            "model that the checkpoint was made from"
        )
    size = float(own.norm())
    if float((theirs - own).norm()) <= _SAME_BASIS * size:
        return torch.eye(base.d_model, dtype=torch.float64), False
    found = Procrustes(centring=False).fit(theirs, own)
    left = float((found.transform(theirs) - own).norm()) / size
    if left > _ANY_BASIS or found.matrix_ is None:
        raise IncompatibleError(
            f"the embeddings of {checkpoint.name} are not those of {base.name}, in no basis ({left:.0%} are left over): give the "
            "model that the checkpoint was made from"
        )
    return found.matrix_, True


def _run(model: SteerableModel, ids: Tensor, fed: Sequence[Tensor] | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the blocks, ``[pos d_model]`` each in float64 on the CPU; with `fed` each is given its own input."""
    hf_model: Any = model.hf_model
    blocks: list[nn.Module] = list(hf_model.get_submodule(model.layout.blocks).children())
    read: dict[int, Tensor] = {}
    made: dict[int, Tensor] = {}

    def before(layer: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            if fed is not None:
                args = (fed[layer].to(args[0]).unsqueeze(0), *args[1:])
            read[layer] = args[0][0].cpu().double()
            return args

        return hook

    def after(layer: int) -> Any:
        def hook(block: nn.Module, args: Any, output: Any) -> None:
            made[layer] = output[0].cpu().double()

        return hook

    with ExitStack() as stack, inference_only(hf_model):
        for layer, block in enumerate(blocks):
            stack.callback(block.register_forward_pre_hook(before(layer)).remove)
            stack.callback(block.register_forward_hook(after(layer)).remove)
        hf_model(input_ids=ids.to(model.device), use_cache=False)
    return [read[layer] for layer in range(len(blocks))], [made[layer] for layer in range(len(blocks))]
