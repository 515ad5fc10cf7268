"""The writes of an `InterventionGraph` as plain PyTorch forward hooks, for any code that calls the model itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from persona_interp.errors import UnsupportedError


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
