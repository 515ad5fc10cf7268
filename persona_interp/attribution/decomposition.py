"""The residual stream of given answers, split exactly into what each component wrote, along one direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.attribution.component import Component
from persona_interp.attribution.write_path import WritePath
from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.models.batching import PaddedBatch, check_lengths, pad, run_in_batches
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.inference import inference_only
from persona_interp.models.steerable import SteerableModel
from persona_interp.profiling import count_tokens
from persona_interp.progress import track
from persona_interp.residuals.pooling import pooling
from persona_interp.shapes import Direction, PositionMask

Seen: TypeAlias = Callable[[Tensor], None]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Projections, averaged over the positions of each answer that a vector is read at.

    Attributes:
        components: everything that wrote.
        parts: activation units along the unit direction; they sum to `whole`.
        whole: that of the block's output, read off the stream itself.
        resid_norm: mean norm of the block's output at these positions.
    """

    components: tuple[Component, ...]
    parts: Float[Tensor, "row component"]
    whole: Float[Tensor, " row"]
    resid_norm: float

    @property
    def gap(self) -> float:
        """How far the parts of an answer miss its whole at most, over the residual norm: rounding, if nothing was forgotten."""
        return float((self.parts.sum(dim=1) - self.whole).abs().max()) / self.resid_norm


def decompose(
    model: SteerableModel,
    bridge: Any,
    rows: Sequence[TokenisedAnswer],
    layer: int,
    direction: Direction,
    *,
    positions: str = "response_avg",
    batch_size: int | None = None,
) -> Decomposition:
    """Run answers through the model and split the output of block `layer` along `direction`.

    Only what is projected is kept, a number for each component and position, so no head's output is ever spelled out in
    ``d_model``. Blocks after `layer` are not run.

    Args:
        model: whose bridge it is.
        bridge: ``model.bridge()``.
        rows: prompts with answers; the last id of an answer is not run, as in an extraction.
        layer: 0-based.
        direction: of any length but 0.
        positions: averaged over: ``response_avg``, ``prompt_avg`` or ``prompt_last``.
        batch_size: rows run together; None lets it choose.

    Raises:
        InvalidInputError: a zero direction, no rows, a row without a position to read, or one longer than the context.
        UnsupportedError: as `WritePath`; or the parts do not add up to the stream, so that something writes into it unseen.
    """
    unit = direction.detach().float()
    if not rows or not float(unit.norm()):
        raise InvalidInputError(
            f"{len(rows)} answers along a direction of norm {float(unit.norm()):g}: give answers and a direction"
        )
    unit = unit / unit.norm()
    path = WritePath(bridge, layer, model.name)
    parts = torch.zeros(len(rows), len(path.components), dtype=torch.float64)
    whole, norms = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)

    def read(batch: PaddedBatch, places: list[int]) -> None:
        reading = _Projections(path, unit, averaged(batch, positions))
        run_to(bridge, batch, reading.hooks, stop=path.blocks[layer].resid)
        parts[places], whole[places], norms[places] = reading.parts(), reading.whole, reading.norm

    in_batches(model, rows, read, batch_size=batch_size, what="attributing")
    found = Decomposition(path.components, parts, whole, float(norms.mean()))
    allowed = math.sqrt(2 * (layer + 1)) * torch.finfo(model.dtype).eps  # one rounding of the stream at each addition
    if not found.gap <= allowed:
        raise UnsupportedError(
            f"what heads and MLPs of {model.name} write does not add up to its residual stream at layer {layer}: the sum is off "
            f"by {found.gap:.2g} of its norm, {allowed:.2g} could be rounding. Something else writes into the stream, or scales "
            "it, in this architecture; in 16 bits, try float32"
        )
    return found


def averaged(batch: PaddedBatch, positions: str) -> Float[Tensor, "batch pos"]:
    """The weight of each position in the average of its row: 0 at pads and wherever `positions` does not read.

    Raises:
        InvalidInputError: a row has no such position.
    """
    mask: PositionMask = batch.spans.reading(pooling(positions).positions)
    counts = mask.sum(dim=1)
    if not bool(counts.all()):
        raise InvalidInputError(f"{int((counts == 0).sum())} answers have no position to read for {positions}: leave them out")
    return mask.double() / counts.unsqueeze(1)


def in_batches(
    model: SteerableModel,
    rows: Sequence[TokenisedAnswer],
    read: Callable[[PaddedBatch, list[int]], None],
    *,
    batch_size: int | None,
    what: str,
) -> None:
    """Call `read` with each padded batch and the rows it holds; the last id of an answer is left out."""
    fed = [row.ids[:-1] if row.answer_ids else row.ids for row in rows]
    check_lengths([len(ids) for ids in fed], 0, model.n_ctx, model.name)
    pad_id = model.tokenizer.pad_token_id
    with track(len(rows), f"{model.name}: {what}") as bar:

        def run(places: list[int]) -> None:
            count_tokens(read=sum(len(fed[p]) for p in places))
            batch = pad([fed[p] for p in places], [rows[p].n_prompt for p in places], pad_id or 0, model.device)
            read(batch, places)
            bar.advance(len(places))

        run_in_batches([len(ids) for ids in fed], run, batch_size=batch_size, what=what)


class _Enough(Exception):  # noqa: N818  (not an error: the way out of a forward)
    """Raised in the last hook that is needed: what comes after it need not be computed."""


def run_to(bridge: Any, batch: PaddedBatch, hooks: Mapping[str, Seen], *, stop: str) -> None:
    """One forward with `hooks` (name of a hook point -> what to do with its value), up to the hook point `stop`.

    The bridge's own Hugging Face tree is called, with ids, mask and positions: the bridge itself would tokenise and pad by its
    own rules. No hook is left, also after an error.
    """

    def seen(tensor: Tensor, hook: Any) -> None:
        if hook.name in hooks:
            hooks[hook.name](tensor)
        if hook.name == stop:
            raise _Enough

    model = bridge.original_model
    names = dict.fromkeys([*hooks, stop])
    inputs = batch.inputs
    with inference_only(model), bridge.hooks(fwd_hooks=[(name, seen) for name in names]), suppress(_Enough):
        # a cache is not needed, but without one TransformerLens 4.3 fails on OLMo 2 in 16 bits: keys stay in float32 there
        model(**inputs, use_cache=True, logits_to_keep=1)


class _Projections:
    """What the hooks of one forward read: averages over positions of the projections of every component."""

    def __init__(self, path: WritePath, unit: Direction, weights: Float[Tensor, "batch pos"]) -> None:
        self._path, self._unit, self._weights = path, unit, weights
        self._found: dict[Component, Tensor] = {}
        self._heads: Tensor | None = None  # of the block that is running, before its norm
        self._projected: Tensor | None = None
        self.whole = self.norm = torch.zeros(0, dtype=torch.float32)
        self.hooks: dict[str, Seen] = {path.embedding: self._of(Component("embedding"))}
        for layer, block in enumerate(path.blocks):
            self.hooks |= {block.heads: self._take_heads, block.projected: self._take_projected}
            self.hooks |= {block.attention: self._attention(layer), block.mlp: self._of(Component("mlp", layer))}
        self.hooks[path.blocks[-1].resid] = self._resid

    def parts(self) -> Float[Tensor, "row component"]:
        """One column a component, on the CPU."""
        return torch.stack([self._found[component] for component in self._path.components], dim=1)

    def _mean(self, values: Float[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
        # where, not a product alone: whatever a model computes at a pad, even NaN, stays out
        weights = self._weights.to(values.device)
        return (torch.where(weights > 0, values.double(), 0) * weights).sum(dim=1).cpu()

    def _along(self, written: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos"]:
        return written.float() @ self._unit.to(written.device)

    def _of(self, component: Component) -> Seen:
        def seen(written: Tensor) -> None:
            self._found[component] = self._mean(self._along(written))

        return seen

    def _take_heads(self, heads: Tensor) -> None:
        self._heads = heads

    def _take_projected(self, projected: Tensor) -> None:
        self._projected = projected

    def _attention(self, layer: int) -> Seen:
        along, bias = self._path.read_heads(layer, self._unit)
        gain = self._path.gain(layer)

        def seen(added: Tensor) -> None:
            if self._heads is None or self._projected is None:
                raise RuntimeError(f"block {layer} added attention to the stream before its heads were seen")
            heads = self._heads.reshape(*added.shape[:2], *along.shape).float()
            parts = torch.einsum("bphd,hd->bph", heads, along.to(heads.device))
            if gain is None:
                scale = torch.ones(added.shape[:2], dtype=torch.float32, device=added.device)
            else:
                scale = _scale(added, self._projected, gain)
            for head in range(along.shape[0]):
                self._found[Component("head", layer, head)] = self._mean(parts[..., head] * scale)
            self._found[Component("bias", layer)] = self._mean(bias * scale)
            self._heads = self._projected = None

        return seen

    def _resid(self, resid: Tensor) -> None:
        self.whole, self.norm = self._mean(self._along(resid)), self._mean(resid.float().norm(dim=-1))


def _scale(added: Tensor, projected: Tensor, gain: Tensor) -> Float[Tensor, "batch pos"]:
    """By what a norm multiplied at each position, beside its gain."""
    before = projected.float() * gain.to(projected.device)
    return (before * added.float()).sum(-1) / before.square().sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
