"""Rewriting weights so that a model computes the same in another basis and at another scale of its residual stream.

In a pre-norm model the stream is a sum of what the embeddings and blocks write, and every reader sees it through a norm that
ignores its scale (but for epsilon). So with the gain of each norm moved into the matrices behind it, every write can be
multiplied with ``scale * rotation`` and every read with the rotation's transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.models.families import FamilyLayout


@dataclass(frozen=True)
class StreamUse:
    """Where an architecture reads and writes its residual stream; paths of modules, those of `reads` and `writes` inside a block.

    Attributes:
        embeddings: what the stream begins as the sum of.
        reads: each norm, with the linear maps that read the stream through it.
        writes: the linear maps whose outputs are added to the stream.
        epsilon: the config's name of what norms add to the variance.
        head_normed: linear maps whose outputs pass a norm of their own that shares `epsilon`.
        keeps_mean: the norms subtract the mean, so a rotation must keep the direction of equal components.
    """

    embeddings: tuple[str, ...]
    reads: tuple[tuple[str, tuple[str, ...]], ...]
    writes: tuple[str, ...]
    epsilon: str
    head_normed: tuple[str, ...] = ()
    keeps_mean: bool = False


_LLAMA = StreamUse(
    embeddings=("model.embed_tokens",),
    reads=(
        ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    ),
    writes=("self_attn.o_proj", "mlp.down_proj"),
    epsilon="rms_norm_eps",
)
STREAMS: dict[str, StreamUse] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": replace(_LLAMA, head_normed=("self_attn.q_proj", "self_attn.k_proj")),
    "gpt2": StreamUse(
        embeddings=("transformer.wte", "transformer.wpe"),
        reads=(("ln_1", ("attn.c_attn",)), ("ln_2", ("mlp.c_fc",))),
        writes=("attn.c_proj", "mlp.c_proj"),
        epsilon="layer_norm_epsilon",
        keeps_mean=True,
    ),
}
"""What is known of architectures by ``model_type``."""

_POST_NORM = "its blocks norm what they write, with a gain that does not commute with a rotation of the residual stream"
_EXPERTS = "its MLP is a mixture of experts, whose routers and stacked matrices would have to follow"
_WHY_NOT = {
    "gemma2": _POST_NORM,
    "gemma3": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "mixtral": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "gpt_oss": _EXPERTS,
}


def stream_of(config: Any, name: str) -> StreamUse:
    """How the architecture of `config` uses its residual stream.

    Raises:
        UnsupportedError: it cannot be changed exactly, or nothing is known of it; says why. `name` is for the message.
    """
    family = str(config.model_type)
    if family not in STREAMS:
        why = _WHY_NOT.get(family, "nothing is known of where it reads and writes its residual stream")
    elif getattr(config, "add_cross_attention", False):
        why = "it also attends to an encoder"
    else:
        return STREAMS[family]
    raise UnsupportedError(f"{name} ({family}) has no exact twin: {why}. Families that have: {', '.join(sorted(STREAMS))}")


def random_rotation(d_model: int, seed: int, *, keeps_mean: bool = False) -> Float[Tensor, "d_model d_model"]:
    """A random orthogonal matrix, float64, uniform over all of them; maybe a reflection.

    Args:
        keeps_mean: uniform over those instead that leave the vector of ones where it is.
    """
    generator = torch.Generator().manual_seed(seed)
    if not keeps_mean:
        return _orthogonal(torch.randn(d_model, d_model, generator=generator, dtype=torch.float64))
    ones = torch.full((d_model, 1), d_model**-0.5, dtype=torch.float64)
    arbitrary = torch.randn(d_model, d_model - 1, generator=generator, dtype=torch.float64)
    rest = torch.linalg.qr(torch.cat([ones, arbitrary], dim=1)).Q[:, 1:]
    inner = _orthogonal(torch.randn(d_model - 1, d_model - 1, generator=generator, dtype=torch.float64))
    return ones @ ones.T + rest @ inner @ rest.T


def _orthogonal(gaussian: Tensor) -> Tensor:
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()  # without the signs, QR prefers some rotations to others


@torch.no_grad()
def change_stream(
    model: nn.Module, layout: FamilyLayout, use: StreamUse, rotation: Float[Tensor, "d_model d_model"] | None, scale: float
) -> None:
    """Rewrite the weights of `model`, in place: its stream becomes ``scale * rotation @ stream`` and its logits stay.

    Its embeddings must not be tied, and its config must have ``scale ** 2`` times the epsilon already.
    """
    for path in use.embeddings:
        embedding: Any = model.get_submodule(path)
        _store(embedding.weight, scale * _turned(embedding.weight.double(), rotation))
    for block in model.get_submodule(layout.blocks).children():
        for norm, readers in use.reads if rotation is not None else ():
            _read_turned(block.get_submodule(norm), [block.get_submodule(path) for path in readers], rotation)
        for path in use.writes:
            writer: Any = block.get_submodule(path)
            _store_map(writer, scale * _turned(_map(writer).T, rotation).T)
            if writer.bias is not None:
                _store(writer.bias, scale * _turned(writer.bias.double(), rotation))
        for path in use.head_normed:  # then epsilon times scale**2 is right for their norms as well
            scaled: Any = block.get_submodule(path)
            for parameter in scaled.parameters(recurse=False):
                _store(parameter, scale * parameter.double())
    if rotation is not None:
        _read_turned(model.get_submodule(layout.final_norm), [model.get_submodule(layout.unembedding)], rotation)


@torch.no_grad()
def make_identity(block: nn.Module, use: StreamUse) -> None:
    """Let `block` write nothing, so that its output is its input."""
    for path in use.writes:
        for parameter in block.get_submodule(path).parameters(recurse=False):
            parameter.zero_()


@torch.no_grad()
def keep_index_scaling(block: nn.Module, config: Any, *, old: int, new: int) -> None:
    """Undo that a GPT-2 with ``scale_attn_by_inverse_layer_idx`` divides attention scores by a block's place, now `new`."""
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        projection: Any = block.get_submodule("attn.c_attn")
        for parameter in projection.parameters(recurse=False):
            parameter[..., : config.hidden_size] *= (new + 1) / (old + 1)  # the queries come first


def _read_turned(norm: Any, readers: Sequence[Any], rotation: Tensor | None) -> None:
    """Move gain and bias of `norm` into its readers, and let these read the rotated stream."""
    gain, shift = norm.weight.double(), getattr(norm, "bias", None)
    biased = all(reader.bias is not None for reader in readers)
    for reader in readers:
        matrix = _map(reader)
        turned = _turned(matrix * gain, rotation)
        if shift is not None:
            constant = matrix @ shift.double()
            if biased:
                _store(reader.bias, reader.bias.double() + constant)
            else:  # a normed stream has mean 0, so what a reader makes of ones is free: it makes the constant of them
                turned += (constant / len(gain) - turned.mean(1))[:, None]
        _store_map(reader, turned)
    norm.weight.fill_(1.0)
    if shift is not None:
        shift.fill_(0.0 if biased else 1.0)


def _turned(rows: Tensor, rotation: Tensor | None) -> Tensor:
    """Vectors of the stream, in the last axis, in the twin's basis."""
    return rows if rotation is None else rows @ rotation.T


def _map(linear: Any) -> Tensor:
    """float64 ``[out in]``; GPT-2 keeps its matrices the other way round."""
    return linear.weight.double() if isinstance(linear, nn.Linear) else linear.weight.double().T


def _store_map(linear: Any, matrix: Tensor) -> None:
    _store(linear.weight, matrix if isinstance(linear, nn.Linear) else matrix.T)


def _store(parameter: Tensor, value: Tensor) -> None:
    parameter.copy_(value)
