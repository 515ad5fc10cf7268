"""A model some of whose heads and MLPs write what they write on average, instead of what they would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from persona_interp.attribution.component import ABLATABLE, Component
from persona_interp.attribution.decomposition import Seen, averaged, in_batches, run_to
from persona_interp.attribution.write_path import WritePath
from persona_interp.errors import InvalidInputError
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.transformer_lens import BridgeEngine
from persona_interp.models.steerable import SteerableModel
from persona_interp.shapes import Residual

Writes = Mapping[Component, Tensor]
"""Component -> what it writes: ``[d_head]`` for a head, before the output matrix; ``[d_model]`` for an MLP."""


def mean_writes(
    model: SteerableModel,
    bridge: Any,
    rows: Sequence[TokenisedAnswer],
    layer: int,
    *,
    positions: str = "response_avg",
    batch_size: int | None = None,
) -> dict[Component, Tensor]:
    """What every head and MLP up to block `layer` writes on average over `rows`, each row counting alike.

    Args:
        model: whose bridge it is.
        bridge: ``model.bridge()``.
        rows: prompts with answers.
        layer: 0-based.
        positions: averaged over, as in `decompose`.
        batch_size: rows run together; None lets it choose.

    Raises:
        InvalidInputError: no rows, or a row without a position to read.
        UnsupportedError: as `WritePath`.
    """
    if not rows:
        raise InvalidInputError("there are no answers to take the means of")
    path = WritePath(bridge, layer, model.name)
    totals: dict[str, Tensor] = {}

    def read(batch: PaddedBatch, _places: list[int]) -> None:
        weights = averaged(batch, positions)

        def add(name: str) -> Seen:
            def seen(written: Tensor) -> None:
                flat = written.float().flatten(2)
                mask = weights.to(flat.device).float()
                total = torch.einsum("bpw,bp->w", torch.where(mask.unsqueeze(-1) > 0, flat, 0), mask).cpu()
                totals[name] = totals[name] + total if name in totals else total

            return seen

        hooks = {name: add(name) for block in path.blocks for name in (block.heads, block.mlp)}
        run_to(bridge, batch, hooks, stop=path.blocks[-1].resid)

    in_batches(model, rows, read, batch_size=batch_size, what="averaging")
    found: dict[Component, Tensor] = {}
    for number, block in enumerate(path.blocks):
        heads = (totals[block.heads] / len(rows)).reshape(path.n_heads(number), -1)
        found |= {Component("head", number, head): heads[head].clone() for head in range(len(heads))}
        found[Component("mlp", number)] = totals[block.mlp] / len(rows)
    return found


class AblatedModel(SteerableModel):
    """A model in which some components write fixed values at every position an answer comes from: mean ablation.

    From the last prompt token on, as with ``positions="response"`` of a `Write`; what the prompt's own tokens made of themselves
    stays. It answers (`generate`) as `model` does, with the same batches and random streams, through TransformerLens; it cannot
    be steered or read. The weights are those of `model`, which is not changed.

    Args:
        model: runs on this machine.
        writes: what is written instead; empty for none, which is the model itself through TransformerLens.
        bridge: ``model.bridge()``, which several ablations may share; None makes one.

    Raises:
        InvalidInputError: a component that cannot be ablated or that the model does not have, or a value of the wrong width.
        UnsupportedError: as `SteerableModel.bridge` and `WritePath`.
    """

    def __init__(self, model: SteerableModel, writes: Writes, *, bridge: Any = None) -> None:
        self.writes = dict(writes)
        bridge = model.bridge() if bridge is None else bridge
        hooks = _replacing(bridge, self.writes, model)
        engine = BridgeEngine(model.engine, bridge, hooks, _fingerprint(model.identity.fingerprint, self.writes))
        super().__init__(engine, model.tokenizer, name=model.name, revision=model.revision, chat=model.chat)


def _fingerprint(whole: str, writes: Writes) -> str:
    """That of the model, with one of its own for each ablation."""
    digest = hashlib.sha256(whole.encode())
    for component in sorted(writes, key=lambda component: component.name):
        digest.update(component.name.encode() + writes[component].float().numpy().tobytes())
    return f"ablated-{digest.hexdigest()}"


Replacing = Callable[[Tensor, Any], Tensor]


def _replacing(bridge: Any, writes: Writes, model: SteerableModel) -> dict[str, Replacing]:
    """Hook point -> the hook that replaces what passes there."""
    if not writes:
        return {}
    layers = [-1 if component.layer is None else component.layer for component in writes]
    known = set(WritePath(bridge, min(max(layers), model.n_layers - 1), model.name).components) if max(layers) >= 0 else set()
    if wrong := [component.name for component in writes if component not in known or component.kind not in ABLATABLE]:
        raise InvalidInputError(
            f"{', '.join(wrong)} of {model.name} cannot be ablated: name heads (L0H0) and MLPs (L0.mlp) of its {model.n_layers} "
            "blocks"
        )
    path = WritePath(bridge, max(layers), model.name)
    hooks: dict[str, Replacing] = {}
    for layer in sorted(set(layers)):
        block = path.blocks[layer]
        heads = {c.head: writes[c] for c in writes if c.layer == layer and c.head is not None}
        if heads:
            hooks[block.heads] = _replace_heads(heads, path.n_heads(layer))
        if (mlp := Component("mlp", layer)) in writes:
            hooks[block.mlp] = _replace_mlp(writes[mlp])
    return hooks


def _replace_heads(values: Mapping[int, Tensor], n_heads: int) -> Replacing:
    def replaced(heads: Tensor, hook: Any) -> Tensor:
        found = heads.clone()
        split = found.view(*heads.shape[:2], n_heads, -1)
        for head, value in values.items():
            split[:, -1, head] = value.to(heads)  # the last column: the last prompt token, then each answer token
        return found

    return replaced


def _replace_mlp(value: Tensor) -> Replacing:
    def replaced(written: Residual, hook: Any) -> Residual:
        found = written.clone()
        found[:, -1] = value.to(written)
        return found

    return replaced
