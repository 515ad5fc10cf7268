"""Reading the residual stream of llama.cpp through its callback between operations."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.models.engines.llama_cpp.library import ggml, llama_cpp

_NAME = "l_out-{}"
"""What llama.cpp calls the output of a block, after a control vector was added to it."""


class Tap:
    """llama.cpp's evaluation callback: copies the outputs of chosen blocks while a decode runs.

    Asked once for every operation, so it answers quickly while nothing is to be read.

    Args:
        d_model: width of the residual stream.
    """

    def __init__(self, d_model: int) -> None:
        self._ggml, self._d_model = ggml(), d_model
        self._wanted: dict[bytes, int] = {}
        self._layers: frozenset[int] = frozenset()
        self._last: int | None = None
        self._found: dict[int, Tensor] = {}
        self._failure: BaseException | None = None
        self.callback: Any = llama_cpp().ggml_backend_sched_eval_callback(self._called)

    def open(self, layers: Collection[int], stop_after: int | None) -> None:
        """Read these blocks in the decode that follows, which ends after block `stop_after`: then no logits come of it."""
        asked = [*layers] if stop_after is None else [*layers, stop_after]
        self._wanted = {_NAME.format(layer).encode(): layer for layer in asked}
        self._layers, self._last = frozenset(layers), stop_after
        self._found, self._failure = {}, None

    def close(self, n_tokens: int) -> dict[int, Float[Tensor, "token d_model"]]:
        """What was read.

        Args:
            n_tokens: how many rows each block must have shown.

        Raises:
            UnsupportedError: the architecture does not show a block under the usual name, or not all of it at once.
        """
        layers, found, failure = self._layers, self._found, self._failure
        self.discard()
        if failure is not None:
            raise failure
        missing = sorted(layers - set(found))
        wrong = {layer: len(rows) for layer, rows in found.items() if len(rows) != n_tokens}
        if missing or wrong:
            said = f"does not show the output of blocks {missing}" if missing else f"showed {wrong} rows of {n_tokens}"
            raise UnsupportedError(f"llama.cpp {said} for this architecture: its residual stream cannot be read")
        return found

    def discard(self) -> None:
        """Read no more."""
        self._wanted, self._layers, self._last, self._found, self._failure = {}, frozenset(), None, {}, None

    def _called(self, tensor: int, ask: bool, data: Any) -> bool:
        """Whether a tensor is wanted; then, once it is there, whether to go on. Nothing may be raised into C."""
        if not self._wanted or self._failure is not None:
            return False
        try:
            layer = self._wanted.get(self._ggml.ggml_get_name(tensor))
            if ask or layer is None:
                return layer is not None
            if layer in self._layers:
                self._copy(tensor, layer)
            return layer != self._last
        except BaseException as failure:
            self._failure = failure
            return False

    def _copy(self, tensor: int, layer: int) -> None:
        size = int(self._ggml.ggml_nbytes(tensor))
        if layer in self._found or size != 4 * self._ggml.ggml_nelements(tensor) or size % (4 * self._d_model):
            raise UnsupportedError(f"llama.cpp shows block {layer} twice in a call, or not as float32 rows of {self._d_model}")
        rows = np.empty((size // (4 * self._d_model), self._d_model), dtype=np.float32)
        self._ggml.ggml_backend_tensor_get(tensor, rows.ctypes.data_as(ctypes.c_void_p), 0, size)
        self._found[layer] = torch.from_numpy(rows)
