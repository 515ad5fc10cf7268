"""What a graph's writes mean, position by position and in double precision, with none of the package's arithmetic.

The formulas are those of the operations' definitions; only a schedule's `factor` is the package's own, and tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import oracle
import torch
from torch import Tensor

from persona_interp.interventions.graph import Write


def written(resid: Tensor, write: Write, step: int) -> Tensor:
    """``[d_model]`` after one write at one position of generation step `step`."""
    h, operation = resid.double(), write.operation
    if write.condition is not None:
        along = float(h @ unit(write.condition.direction))
        if not (along > write.condition.threshold if write.condition.side == "above" else along < write.condition.threshold):
            return resid
    c = write.coefficient * (1.0 if write.schedule is None else write.schedule.factor(step))
    v = operation.direction.double()
    u = unit(v)
    along = h @ u
    if operation.kind == "add":
        h = h + c * v
    elif operation.kind == "add_preserving_norm":
        h = (h + c * v) / (h + c * v).norm() * h.norm()
    elif operation.kind == "ablate":
        h = h - c * along * u
    elif operation.kind == "ablate_then_add":
        h = h - along * u + c * v
    elif operation.kind == "clamp":
        h = h + c * (operation.projection - along) * u
    elif operation.kind == "cap":
        h = h - c * max(0.0, float(along) - operation.bound) * u
    else:
        raise AssertionError(f"the oracle does not know the operation {operation.kind!r}: write it here, from its definition")
    return h.to(resid.dtype)


def unit(direction: Tensor) -> Tensor:
    return direction.double() / direction.double().norm()


def after(block_output: Tensor, writes: Sequence[Write], layer: int, n_prompt: int, row: int = 0) -> Tensor:
    """``[pos d_model]`` of one unpadded text after the writes of `layer`."""
    resid = block_output.clone()
    for write in writes:
        if write.layer != layer or (write.rows is not None and row not in write.rows):
            continue
        for pos in range(len(resid)):
            if {"all": True, "prompt": pos < n_prompt, "response": pos >= n_prompt - 1}[write.positions]:
                resid[pos] = written(resid[pos], write, max(0, pos - n_prompt + 1))
    return resid


@contextmanager
def hooks(hf_model: Any, writes: Sequence[Write], n_prompt: int, row: int, outputs: dict[int, Tensor]) -> Iterator[None]:
    handles = []
    for layer, block in enumerate(oracle.blocks_of(hf_model)):

        def hook(module: Any, args: Any, output: Tensor, layer: int = layer) -> Tensor:
            outputs[layer] = after(output[0], writes, layer, n_prompt, row)
            return outputs[layer].unsqueeze(0)

        handles.append(block.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward(hf_model: Any, ids: Sequence[int], n_prompt: int, writes: Sequence[Write], row: int = 0) -> tuple[Tensor, Tensor]:
    """(logits ``[pos vocab]``, block outputs ``[layer pos d_model]``) of one unpadded text without a cache."""
    outputs: dict[int, Tensor] = {}
    with torch.no_grad(), hooks(hf_model, writes, n_prompt, row, outputs):
        logits = hf_model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits, torch.stack([outputs[layer] for layer in sorted(outputs)])


def greedy(
    hf_model: Any, prompt: Sequence[int], n_tokens: int, writes: Sequence[Write], end_ids: frozenset[int], row: int = 0
) -> tuple[int, ...]:
    """The most likely token, `n_tokens` times or until one of `end_ids`, each time from the whole text."""
    ids = list(prompt)
    while len(ids) < len(prompt) + n_tokens and not (len(ids) > len(prompt) and ids[-1] in end_ids):
        ids.append(int(forward(hf_model, ids, len(prompt), writes, row)[0][-1].argmax()))
    return tuple(ids[len(prompt) :])
