"""The writes of an `InterventionGraph` as plain PyTorch forward hooks, for any code that calls the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.stacked import StackedGraph
from persona_interp.interventions.positions import CallMasks


@contextmanager
def hooked(blocks: Sequence[nn.Module], writes: StackedGraph, masks: Callable[[], CallMasks]) -> Iterator[None]:
    """Write to the outputs of `blocks` while the context is open; every hook is gone when it closes, also after an error.

    Args:
        blocks: all blocks of the model, in order.
        writes: the compiled graph.
        masks: gives the position masks of the call that is running.
    """
    with ExitStack() as stack:
        for layer in sorted(writes.by_layer):
            handle = blocks[layer].register_forward_hook(_hook(layer, writes, masks))
            stack.callback(handle.remove)
        yield


def _hook(layer: int, writes: StackedGraph, masks: Callable[[], CallMasks]) -> Callable[[nn.Module, Any, Any], Tensor]:
    def hook(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise UnsupportedError(
                f"block {layer} ({type(module).__name__}) returned a {type(output).__name__}, expected one tensor [batch pos d_model]: "
                "this architecture cannot be steered through its block outputs"
            )
        return writes.apply(layer, output, masks())

    return hook
