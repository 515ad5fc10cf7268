"""Which positions each call of a Hugging Face model holds, for hooks in code that calls the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.model_call import ModelCall, cache_of, read_call
from persona_interp.interventions.compile.prompt_ends import PromptEnds
from persona_interp.interventions.compile.stacked import StackedGraph, stack_writes
from persona_interp.interventions.compile.watched_generate import watched
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.positions import CallMasks, Spans, later_masks
from persona_interp.shapes import Residual


class FollowedCalls:
    """Follows the calls of one model and applies a graph to what its blocks put out.

    Args:
        graph: what to write.
        attention_mask: ``[batch pos]`` of the prompts; None: taken from each call.
        n_prompt: prompt tokens of each row, those in a cache counted; None: worked out, see `PromptEnds`.
    """

    def __init__(self, graph: InterventionGraph, attention_mask: Tensor | None, n_prompt: Sequence[int] | None) -> None:
        self._graph = graph
        self._ends = PromptEnds(attention_mask, n_prompt)
        self._anywhere = all(write.positions == "all" and write.schedule is None for write in graph.writes)
        self._writes: StackedGraph | None = None
        self._n_rows = 0
        self._masks: CallMasks | None = None
        self._call: ModelCall | None = None
        self._model: nn.Module | None = None
        self._running: nn.Module | None = None
        self._seen: set[int] = set()
        self._watches_blocks = True

    @contextmanager
    def following(self, model: nn.Module, decoder: nn.Module | None = None, *, bridge: nn.Module | None = None) -> Iterator[None]:
        """Look at every call of `model`, and of `decoder`, the part of it that holds the blocks, where that is called by itself.

        Args:
            model: a Hugging Face model.
            decoder: None: there is no such part.
            bridge: a ``TransformerBridge`` that calls `model`; resetting its hooks ends the steering.

        Raises:
            UnsupportedError: while the model runs, a block that is to be written to runs where hooks do not see it.
        """
        self._model, self._watches_blocks = model, bridge is None
        with ExitStack() as stack:
            for module in (model, decoder):
                if module is not None:
                    stack.callback(module.register_forward_pre_hook(self.begin, with_kwargs=True).remove)
                    # a failed call has ended, too
                    stack.callback(module.register_forward_hook(self._end, always_call=True).remove)
            stack.enter_context(watched(model, "generate", self._ends.generating))
            if bridge is not None:
                for name in ("generate", "generate_stream"):
                    stack.enter_context(watched(bridge, name, self._ends.generating))
            yield

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A forward pre-hook (with keyword arguments) of the whole model.

        Raises:
            UnsupportedError: pads, or where a prompt ends, cannot be told, and the graph depends on it.
            InvalidInputError: rows or prompt lengths that the call does not have.
        """
        if self._running is self._model and module is not self._model:
            return  # the decoder, called by the model
        self._masks = None
        call = read_call(module, args, kwargs)
        if self._writes is None or call.n_rows != self._n_rows:
            self._graph.check_rows(call.n_rows, model_name=type(module).__name__)
            self._writes, self._n_rows = stack_writes(self._graph, call.n_rows), call.n_rows
        real = self._ends.real(call)
        end = self._ends.find(call, real)
        if end is None and not self._anywhere:
            raise UnsupportedError(self._ends.unknown(call))
        # where everything is written to alike, the end plays no part
        self._masks = later_masks(Spans(real, real.new_zeros(call.n_rows).long() if end is None else end), call.cached)
        self._call, self._seen, self._running = call, set(), module

    def apply(self, layer: int, resid: Residual) -> Residual:
        """The output of block `layer` as the graph wants it; also when a block is run again for its gradients.

        Raises:
            UnsupportedError: no call of the model is known to which the block belongs.
        """
        if self._masks is None or self._writes is None:
            raise UnsupportedError(
                f"block {layer} was called by itself, not through the model, so which positions it holds cannot be told: call "
                "the model, or use BlockWrites, which takes block outputs"
            )
        self._seen.add(layer)
        return self._writes.apply(layer, resid, self._masks)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook: what the call left behind, and whether it ran the blocks that were to be written to."""
        if module is not self._running:
            return
        self._running = None
        if output is None or self._call is None or self._masks is None or self._writes is None:
            return
        self._ends.remember(self._call, cache_of(output))
        last = max(self._seen, default=None)
        missed = [layer for layer in self._writes.layers(self._masks) if layer not in self._seen]
        # those above the last one run may be left out on purpose, as assistants that exit early do
        if self._watches_blocks and missed and (last is None or missed[0] < last):
            raise UnsupportedError(
                f"{type(module).__name__} ran without its block {missed[0]} being seen, so that block was not steered: its "
                "forward is a traced, exported or otherwise replaced one; give the model as transformers loads it"
            )
