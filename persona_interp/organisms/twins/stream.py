"""Rewriting weights so that a model computes the same in another basis and at another scale of its residual stream.

In a pre-norm model the stream is a sum of what the embeddings and blocks write, and every reader sees it through a norm that
ignores its scale (but for epsilon). So with the gain of each norm moved into the matrices behind it, every write can be
multiplied with ``scale * rotation`` and every read with the rotation's transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.models.families import FAMILIES, FamilyLayout, StreamUse, layout_of


def stream_of(config: Any, name: str) -> StreamUse:
    """How the architecture of `config` uses its residual stream.

    Raises:
        UnsupportedError: it cannot be changed exactly, or nothing is known of it; says why. `name` is for the message.
    """
    layout = layout_of(config)
    if layout.stream_use is None:
        why = layout.why_no_twin
    elif getattr(config, "add_cross_attention", False):
        why = "it also attends to an encoder"
    else:
        return layout.stream_use
    known = ", ".join(sorted(name for name, each in FAMILIES.items() if each.stream_use is not None))
    raise UnsupportedError(f"{name} ({layout.model_type}) has no exact twin: {why}. Families that have: {known}")


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
