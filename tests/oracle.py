"""What the package must agree with: one unpadded text at a time, without a cache, with bare hooks and no code of the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def blocks_of(hf_model: Any) -> Any:
    if hasattr(hf_model, "transformer"):
        return hf_model.transformer.h
    if hasattr(hf_model, "gpt_neox"):
        return hf_model.gpt_neox.layers
    return getattr(hf_model.model, "language_model", hf_model.model).layers


@contextmanager
def hooks(hf_model: Any, edits: dict[int, tuple[Tensor, slice]], outputs: dict[int, Tensor]) -> Iterator[None]:
    """Add ``edits[layer] = (offset, positions)`` to block outputs and keep every output, edited, in `outputs`."""
    handles = []
    for layer, block in enumerate(blocks_of(hf_model)):

        def hook(module: Any, args: Any, output: Tensor, layer: int = layer) -> Tensor:
            output = output.clone()
            if layer in edits:
                offset, positions = edits[layer]
                output[:, positions] += offset
            outputs[layer] = output[0]
            return output

        handles.append(block.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward(hf_model: Any, ids: Sequence[int], edits: dict[int, tuple[Tensor, slice]] | None = None) -> tuple[Tensor, Tensor]:
    """(logits ``[pos vocab]``, block outputs ``[layer pos d_model]``) of one text."""
    outputs: dict[int, Tensor] = {}
    with torch.no_grad(), hooks(hf_model, edits or {}, outputs):
        logits = hf_model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits, torch.stack([outputs[layer] for layer in sorted(outputs)])


def greedy(
    hf_model: Any,
    prompt: Sequence[int],
    n_tokens: int,
    edits: dict[int, tuple[Tensor, slice]] | None = None,
    end_ids: frozenset[int] = frozenset(),
) -> tuple[int, ...]:
    """The most likely token, `n_tokens` times or until one of `end_ids`, each time from the whole text."""
    ids = list(prompt)
    while len(ids) < len(prompt) + n_tokens and not (len(ids) > len(prompt) and ids[-1] in end_ids):
        ids.append(int(forward(hf_model, ids, edits)[0][-1].argmax()))
    return tuple(ids[len(prompt) :])


def assert_not_close(left: Tensor, right: Tensor, by: float = 1e-2) -> None:
    """The two differ clearly: what was to make a difference made one."""
    assert left.shape == right.shape
    assert float((left.float() - right.float()).abs().max()) > by
