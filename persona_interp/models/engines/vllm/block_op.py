"""The custom operation ``persona_interp::block``: the one place where a model's blocks meet what steers it.

A compiled graph calls it as an operation it does not look into, and it reads what the step under way wants when it runs, not when
the graph was made. Without a compiler it is an ordinary function call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from persona_interp.models.engines.vllm.steering import STEERED


def at_block(hidden: Tensor, rest: Tensor | None, number: int, layer: int) -> None:
    """Write to and read a block's output, ``[token d_model]`` in one or two parts; `hidden` is changed in place."""
    if torch.compiler.is_compiling():
        torch.ops.persona_interp.block(hidden, rest, number, layer)
    else:
        _run(hidden, rest, number, layer)


def _run(hidden: Tensor, rest: Tensor | None, number: int, layer: int) -> None:
    steering = STEERED.get(number)
    if steering is not None and steering.works_at(layer):
        steering.block(layer, hidden, rest)


def _nothing(hidden: Tensor, rest: Tensor | None, number: int, layer: int) -> None:
    """What the operation puts out: nothing."""


_LIBRARY = torch.library.Library("persona_interp", "FRAGMENT")
_LIBRARY.define("block(Tensor(a!) hidden, Tensor? rest, int number, int layer) -> ()")
_LIBRARY.impl("block", _run, "CompositeExplicitAutograd")
torch.library.register_fake("persona_interp::block", _nothing, lib=_LIBRARY)
