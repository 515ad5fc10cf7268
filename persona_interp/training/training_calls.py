"""The calls of a model that gradients are taken through, and which positions each of them holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.model_call import read_call
from persona_interp.interventions.compile.stacked import StackedGraph, stack_writes
from persona_interp.interventions.graph import InterventionGraph, WritePositions
from persona_interp.interventions.positions import CallMasks, Everywhere
from persona_interp.shapes import PositionMask

IGNORED = -100
"""Label of a token that carries no loss, in all of transformers."""
_REMEMBERED = 4096
_Call = tuple[StackedGraph, CallMasks]


class LabelMasks(CallMasks):
    """Positions of a training batch: what carries a loss is the answer, whatever stands before it the prompt.

    Args:
        real: False at pads.
        labels: `IGNORED` at what carries no loss; None: nothing is known but pads.
    """

    def __init__(self, real: PositionMask, labels: Int[Tensor, "batch pos"] | None) -> None:
        self._real = real
        self._answer = torch.zeros_like(real) if labels is None else real & (labels != IGNORED)

    def __call__(self, positions: WritePositions) -> Bool[Tensor, "batch pos"] | Everywhere:
        """As `CallMasks`."""
        if positions == "all":
            touched = self._real
        elif positions == "prompt":
            touched = self._real & ~self._answer
        else:  # the token before an answer predicts its first one
            before = torch.cat([self._answer[:, 1:], torch.zeros_like(self._answer[:, :1])], dim=1)
            touched = self._real & (self._answer | before)
        return True if bool(touched.all()) else touched

    @property
    def steps(self) -> int | Int[Tensor, "batch pos"]:
        """As while generating: 0 in the prompt, k at the k-th token that carries a loss."""
        return self._answer.long().cumsum(dim=1) * self._answer


class TrainingCalls:
    """Follows one model in training and applies a graph to what its blocks put out, in calls that gradients are taken through.

    With gradient checkpointing a block runs again while gradients flow back, when other batches may have run since. What it is
    run on then lies where it lay before, and by that its call is known again.

    Args:
        graph: what to write.
        wanted: asked before each call of the model; where it says no, nothing is written.
    """

    def __init__(self, graph: InterventionGraph, wanted: Callable[[], bool] = lambda: True) -> None:
        self._graph, self._wanted = graph, wanted
        self._by_labels = any(write.positions != "all" or write.schedule is not None for write in graph.writes)
        self._call: _Call | None = None
        self._running = False
        self._known: OrderedDict[tuple[int, int], _Call | None] = OrderedDict()

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A forward pre-hook (with keyword arguments) of the whole model.

        Raises:
            UnsupportedError: where answers begin cannot be told, and the graph depends on it.
        """
        self._running, self._call = True, None
        if not torch.is_grad_enabled() or not self._wanted():
            return
        call = read_call(module, args, kwargs)
        labels = kwargs.get("labels")
        if self._by_labels and labels is None:
            raise UnsupportedError(
                "prevention at 'prompt' or 'response' positions, or with a schedule, needs to know which tokens are the answer: "
                "call the model with labels=, -100 at the prompt, or write at positions='all'"
            )
        mask = call.mask
        if isinstance(mask, Tensor) and mask.dim() == 2:
            real = mask[:, -call.width :].bool()
        else:  # a mask in another form, or none: writing to pads changes nothing that carries a loss
            real = torch.ones(call.n_rows, call.width, dtype=torch.bool, device=call.device)
        self._call = stack_writes(self._graph, call.n_rows), LabelMasks(real, labels if self._by_labels else None)

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of the whole model, called after an error too."""
        self._running = False

    def hook(self, layer: int) -> Callable[..., Tensor | None]:
        """A forward hook (with keyword arguments) of the block `layer`."""

        def write(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Tensor | None:
            fed = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(output, Tensor) or not isinstance(fed, Tensor):
                raise UnsupportedError(
                    f"block {layer} ({type(block).__name__}) takes a {type(fed).__name__} and returns a {type(output).__name__}, "
                    "expected one tensor [batch pos d_model] each: this architecture cannot be steered through its block outputs"
                )
            call = self._call_of((layer, fed.data_ptr()))
            return None if call is None else call[0].apply(layer, output, call[1])

        return write

    def _call_of(self, key: tuple[int, int]) -> _Call | None:
        """The call a block belongs to: the one that runs, or while gradients are taken the one it was run in."""
        if self._running:
            self._known[key] = self._call
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return self._call
        if key not in self._known:
            raise UnsupportedError(
                f"block {key[0]} was run again for its gradients, but what it was run on is not where it was (offloaded "
                "activations?), so which batch it belongs to cannot be told: train without offloading or without gradient "
                "checkpointing"
            )
        return self._known[key]
