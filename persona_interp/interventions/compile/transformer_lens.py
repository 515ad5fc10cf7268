"""The writes of an `InterventionGraph` as TransformerLens hooks, for any code that calls a ``TransformerBridge``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.interventions.compile.followed_calls import FollowedCalls
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.shapes import Residual, TokenIds


@contextmanager
def transformer_lens_hooks(
    bridge: Any, graph: InterventionGraph, *, attention_mask: Tensor | None = None, n_prompt: Sequence[int] | None = None
) -> Iterator[Any]:
    """Apply the writes of `graph` to every call of `bridge` inside the block; nothing is left on it afterwards or after an error.

    Whatever calls the bridge is steered: ``bridge(...)``, ``run_with_cache``, ``run_with_hooks``, ``generate``, ``hf_generate``,
    with and without a KV cache. The hooks are ordinary ones on ``blocks.<layer>.hook_out`` (``hook_resid_post`` is the same
    place), so caches hold the steered residuals, hooks added inside the block see them, and ``bridge.reset_hooks()`` inside the
    block ends the steering. Row i means row i of the call.

    Example:
        >>> bridge = model.bridge()
        >>> with transformer_lens_hooks(bridge, vector.graph(1.5, layers=[12])):
        ...     logits, cache = bridge.run_with_cache("How are you?")

    Args:
        bridge: of `SteerableModel.bridge`, or any ``TransformerBridge`` that runs a model on this machine.
        graph: what to write; captures cannot be read here, ``run_with_cache`` does.
        attention_mask: ``[batch pos]`` of the prompts; None: the one the bridge gives the model, and without one every token
            counts.
        n_prompt: prompt tokens of each row, those in a cache among them; None: what ``generate``, ``generate_stream`` and
            ``hf_generate`` were given, and else the tokens of a call without cached ones, which single ones may follow.

    Yields:
        `bridge` itself.

    Raises:
        UnsupportedError: a graph with captures, or a bridge that has no blocks on this machine; while the bridge runs, rows it
            padded on the right, for which it makes no attention mask, or a call of which it cannot be known where prompts end.
        IncompatibleError: layers or width do not fit, as `InterventionGraph.check`.
        InvalidInputError: NaN or infinite values; while the bridge runs, a row its call does not have.
    """
    if graph.captures:
        raise UnsupportedError(
            "transformer_lens_hooks() writes only: read residuals with bridge.run_with_cache(), or with SteerableModel.capture "
            "or .generate, which take the same graph"
        )
    hf_model = _model_of(bridge)
    graph.check(n_layers=len(bridge.blocks), d_model=int(bridge.cfg.d_model), model_name=str(bridge.cfg.model_name))
    calls = FollowedCalls(graph, attention_mask, n_prompt)
    pads = _UnmarkedPads(bridge) if attention_mask is None else None

    def check(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if pads is not None:
            pads.refuse(args, kwargs)

    # by its own name: under an alias, compatibility mode would call a hook twice
    writes = [(bridge.blocks[layer].hook_out.name, _hook(calls, layer)) for layer in sorted({w.layer for w in graph.writes})]
    start = hf_model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        with uncompiled(), calls.following(hf_model, bridge=bridge), bridge.hooks(fwd_hooks=writes):
            yield bridge
    finally:
        start.remove()


def _hook(calls: FollowedCalls, layer: int) -> Callable[..., Residual]:
    def write(resid: Residual, hook: Any) -> Residual:
        return calls.apply(layer, resid)

    return write


def _model_of(bridge: Any) -> Any:
    try:
        return bridge.original_model if len(bridge.blocks) else None
    except AttributeError as error:
        raise UnsupportedError(
            f"{type(bridge).__name__} has no model with blocks on this machine to put hooks on: give a TransformerBridge, for "
            "example that of SteerableModel.bridge()"
        ) from error


class _UnmarkedPads:
    """Finds calls in which rows end in pads that no attention mask marks, and which steering would therefore count as tokens.

    So TransformerLens calls a model on texts that it padded on the right: causal attention never looks at such pads. Rows that
    all end in the pad token hold no pads (they end a text, where one token does both), and a call that repeats the one before and
    adds a token is generation without a cache, where rows that have ended go on with that token.
    """

    def __init__(self, bridge: Any) -> None:
        self._pad = getattr(bridge.tokenizer, "pad_token_id", None)
        self._last: TokenIds | None = None

    def refuse(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise UnsupportedError if the model is called so."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self._pad is None or ids is None or kwargs.get("attention_mask") is not None:
            return
        last, self._last = self._last, ids
        if last is not None and ids.shape == (last.shape[0], last.shape[1] + 1) and torch.equal(ids[:, :-1], last):
            return
        padded = ids[:, -1] == self._pad
        if bool(padded.any()) and not bool(padded.all()):
            raise UnsupportedError(
                f"{int(padded.sum())} of the {len(ids)} rows end in the pad token {self._pad}, and the model was called without "
                "an attention mask, so pads cannot be told from tokens: call the bridge with padding_side='left', or give "
                "attention_mask=... to it or to transformer_lens_hooks()"
            )
