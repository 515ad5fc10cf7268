"""The writes of an `InterventionGraph` as a function, for code that runs the model itself and has its block outputs in hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.positions import decode_masks, prefill_masks, row_spans
from persona_interp.shapes import Residual


class BlockWrites:
    """``writes(layer, resid, step)``: what the output of block `layer` becomes under a graph. A pure function of its arguments.

    For one's own nnsight traces, TransformerLens hooks or forward hooks, between whatever else these do. A whole call of the
    model, prompts or prompts and answers, is step 0; while an answer is generated with a KV cache, the call that holds its k-th
    token is step k. That is what `SteerableModel.generate` does too, token for token.

    Example:
        >>> writes = BlockWrites(vector.graph(0.5, layers=[4]), batch["attention_mask"])
        >>> with lm.trace(batch):  # lm = nnsight.TransformersModel(...)
        ...     for layer in writes.layers:
        ...         block = lm.model.layers[layer]
        ...         block.output = writes(layer, block.output)
        ...     logits = lm.output.logits.save()

    Args:
        graph: what to write; reading is what one's own code does.
        attention_mask: ``[batch pos]``, not 0 at tokens, 0 at pads on either side, of the calls at step 0.
        n_prompt: prompt tokens of each row; None: all tokens of a row are its prompt.

    Raises:
        UnsupportedError: a graph with captures.
        InvalidInputError: a mask or prompt lengths of another shape, or as `InterventionGraph.check`.
        IncompatibleError: directions of different widths.
    """

    def __init__(
        self, graph: InterventionGraph, attention_mask: Int[Tensor, "batch pos"], *, n_prompt: Sequence[int] | None = None
    ) -> None:
        if graph.captures:
            raise UnsupportedError("BlockWrites only writes: save what you want to read in your own code, or use SteerableModel")
        if attention_mask.dim() != 2:
            raise InvalidInputError(f"the attention mask has shape {tuple(attention_mask.shape)}, expected [batch pos]")
        self._shape = tuple(attention_mask.shape)
        n_rows = self._shape[0]
        if n_prompt is not None and len(n_prompt) != n_rows:
            raise InvalidInputError(f"n_prompt has {len(n_prompt)} entries for {n_rows} rows: give one each")
        self.layers = tuple(sorted({write.layer for write in graph.writes}))
        self._d_model = int(graph.writes[0].operation.direction.shape[-1]) if graph.writes else 0
        shape = {"n_layers": 1 + max(self.layers, default=0), "d_model": self._d_model}
        graph.check(**shape, n_rows=n_rows, model_name="the first direction")
        self._writes = stack_writes(graph, n_rows)
        self._prompts = prefill_masks(row_spans(attention_mask.bool(), n_prompt))

    def __call__(self, layer: int, resid: Residual, step: int = 0) -> Residual:
        """The output of block `layer` after the graph's writes there; `resid` itself, untouched, where there is none.

        Args:
            layer: 0-based block.
            resid: its output.
            step: 0 for a whole call, k for the call that holds the k-th answer token of every row.

        Raises:
            UnsupportedError: `resid` is not one tensor ``[batch pos d_model]``.
            InvalidInputError: a call of another shape than the step says.
            IncompatibleError: the directions have another width.
        """
        if layer not in self.layers:
            return resid
        self._check(layer, resid, step)
        return self._writes.apply(layer, resid, decode_masks(step) if step else self._prompts)

    def _check(self, layer: int, resid: Any, step: int) -> None:
        if not isinstance(resid, Tensor) or resid.dim() != 3:
            found = f"shape {tuple(resid.shape)}" if isinstance(resid, Tensor) else f"a {type(resid).__name__}"
            raise UnsupportedError(f"the output of block {layer} is {found}, expected one tensor [batch pos d_model]")
        expected = self._shape if step == 0 else (self._shape[0], 1)
        if step < 0 or tuple(resid.shape[:2]) != expected:
            raise InvalidInputError(
                f"block {layer} put out [batch pos] = {list(resid.shape[:2])} at step {step}, expected {list(expected)}: "
                "step 0 is a call of the shape of the attention mask, step k the call that holds the k-th answer token"
            )
        if resid.shape[2] != self._d_model:
            raise IncompatibleError(f"the directions have width {self._d_model}, the output of block {layer} {resid.shape[2]}")
