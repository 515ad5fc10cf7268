"""The writes of an `InterventionGraph` as plain PyTorch forward hooks, for any code that calls the model itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.stacked import StackedGraph, stack_writes
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.positions import CallMasks, Spans, answer_masks, prefill_masks, row_spans
from persona_interp.shapes import PositionMask, Residual, TokenIds


@contextmanager
def hooked(blocks: Sequence[nn.Module], layers: Collection[int], apply: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Replace the outputs of the blocks in `layers` by ``apply(layer, output)``. No hook is left afterwards, nor after an error.

    Raises:
        UnsupportedError: while the model runs, if a block does not return one tensor.
    """
    with ExitStack() as stack:
        for layer in sorted(layers):
            handle = blocks[layer].register_forward_hook(_hook(layer, apply))
            stack.callback(handle.remove)
        yield


def _hook(layer: int, apply: Callable[[int, Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Tensor]:
    def hook(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise UnsupportedError(
                f"block {layer} ({type(module).__name__}) returned a {type(output).__name__}, expected one tensor "
                "[batch pos d_model]: this architecture cannot be steered through its block outputs"
            )
        return apply(layer, output)

    return hook


class FollowedCalls:
    """Works out, from what a Hugging Face model is called with, which positions each call holds.

    A call with an empty KV cache starts a new prompt, unless its ids repeat those of the call before and add one: that is
    generation without a cache. A call with a filled cache holds answer tokens: those that follow the last call without one, or
    the first ones of an answer where there was none.

    Args:
        graph: what to write.
        attention_mask: ``[batch pos]`` of the prompts; None: taken from each call.
        n_prompt: prompt tokens of each row, where a call holds prompt and answer; None: all tokens of a first call.
    """

    def __init__(self, graph: InterventionGraph, attention_mask: Tensor | None, n_prompt: Sequence[int] | None) -> None:
        self._graph = graph
        self._attention_mask = attention_mask
        self._n_prompt = n_prompt
        self._writes: StackedGraph | None = None
        self._n_rows = 0
        self._masks: CallMasks | None = None
        self._last_ids: TokenIds | None = None
        self._last_spans: Spans | None = None
        self._answered: tuple[int, Int[Tensor, " batch"]] | None = None

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A forward pre-hook (with keyword arguments) of the whole model."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens = ids if ids is not None else kwargs["inputs_embeds"]
        n_rows, width = tokens.shape[:2]
        if self._writes is None or n_rows != self._n_rows:
            self._graph.check_rows(n_rows, model_name=type(module).__name__)
            self._writes, self._n_rows, self._answered = stack_writes(self._graph, n_rows), n_rows, None
        cached = _cached_tokens(kwargs.get("past_key_values"))
        real = self._real(kwargs.get("attention_mask"), n_rows, width, tokens.device, first=cached == 0)
        if cached:
            self._masks = answer_masks(real, self._steps(cached, real))
            return
        spans = self._spans(ids, real)
        self._last_ids, self._last_spans = ids, spans
        self._masks = prefill_masks(spans)
        self._answered = width, spans.steps()[:, -1]

    def apply(self, layer: int, resid: Residual) -> Residual:
        """The output of block `layer` as the graph wants it."""
        if self._masks is None or self._writes is None:
            return resid  # the block was called by itself, not through the model
        return self._writes.apply(layer, resid, self._masks)

    def _real(self, given: Any, n_rows: int, width: int, device: torch.device, *, first: bool) -> PositionMask:
        mask = given if self._attention_mask is None else self._attention_mask if first else None
        if mask is None:
            return torch.ones(n_rows, width, dtype=torch.bool, device=device)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            raise UnsupportedError(
                "the model was called with an attention mask that is not [batch pos], so pads cannot be told from tokens: "
                "pass attention_mask=... of the prompts to steered()"
            )
        real = mask.to(device=device, dtype=torch.bool)[:, -width:] if mask.shape[1] >= width else mask.to(device, torch.bool)
        grown = width - real.shape[1]  # tokens generated without a cache, beyond the mask given for the prompts
        return torch.cat([real, real.new_ones(n_rows, grown)], dim=1) if grown else real

    def _spans(self, ids: TokenIds | None, real: PositionMask) -> Spans:
        if self._n_prompt is None and self._continues(ids) and self._last_spans is not None:
            return Spans(real, self._last_spans.prompt_end)
        return row_spans(real, self._n_prompt)

    def _steps(self, cached: int, real: PositionMask) -> Int[Tensor, "batch pos"]:
        """The steps of a call that goes on from `cached` tokens."""
        if self._answered is None or self._answered[0] > cached:
            self._answered = cached, torch.zeros(len(real), dtype=torch.long)  # the cache was filled elsewhere
        width, answered = self._answered
        column = torch.arange(cached - width + 1, cached - width + 1 + real.shape[1], device=real.device)
        return answered.to(real.device).unsqueeze(1) + column

    def _continues(self, ids: TokenIds | None) -> bool:
        last = self._last_ids
        if ids is None or last is None or ids.shape != (last.shape[0], last.shape[1] + 1):
            return False
        return bool(torch.equal(ids[:, :-1], last))


def _cached_tokens(cache: Any) -> int:
    if cache is None:
        return 0
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    return int(cache[0][0].shape[-2])
