"""Reading the residual stream of llama.cpp: its callback between operations, and what `Capture` nodes make of what it saw."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.readout import ReadValues
from persona_interp.interventions.graph import Capture
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


class CapturedRows:
    """The results of every `Capture` of a graph for one batch, gathered stretch by stretch of its rows.

    Means are running sums in float32, so memory does not grow with the length of a text.

    Args:
        captures: in the order of the graph.
        n_layers: blocks of the model.
        n_rows: of the batch.
        d_model: width of the residual stream.
    """

    def __init__(self, captures: Iterable[Capture], n_layers: int, n_rows: int, d_model: int) -> None:
        self._captures = tuple(captures)
        self._layers = {capture: capture.layers_of(n_layers) for capture in self._captures}
        widths = {"mean": d_model, "norm": 1}
        self._sums = {
            c: torch.zeros(len(self._layers[c]), n_rows, widths[c.reduction], dtype=torch.float32)
            for c in self._captures
            if c.reduction in widths
        }
        self._counts = {capture: torch.zeros(n_rows, dtype=torch.long) for capture in self._sums}
        self._kept: dict[Capture, list[list[Tensor]]] = {
            capture: [[] for _ in range(n_rows)] for capture in self._captures if capture.reduction == "none"
        }

    @property
    def deepest(self) -> int:
        """The last block that any of them reads."""
        return max(layers[-1] for layers in self._layers.values())

    def layers(self, stretches: Iterable[Stretch]) -> frozenset[int]:
        """The blocks to read in a call that holds these stretches."""
        stretches = tuple(stretches)
        wanted = (c for c in self._captures if any(len(stretch.places(c)) for stretch in stretches))
        return frozenset[int]().union(*(self._layers[capture] for capture in wanted))

    def take(self, stretch: Stretch, resid: Mapping[int, Float[Tensor, "token d_model"]]) -> None:
        """Add what a call showed of one row's stretch."""
        for capture in self._captures:
            places = stretch.places(capture)
            if not len(places):
                continue
            seen = torch.stack([resid[layer][places.start : places.stop] for layer in self._layers[capture]])
            if capture.reduction == "norm":
                seen = torch.linalg.vector_norm(seen, dim=-1, keepdim=True)
            if capture in self._sums:
                self._sums[capture][:, stretch.row] += seen.sum(dim=1)
                self._counts[capture][stretch.row] += len(places)
            else:
                self._kept[capture][stretch.row].append(seen)

    def values(self) -> list[ReadValues]:
        """All that was read, as `Readouts.take` wants it."""
        return [
            (self._sums[capture], self._counts[capture], []) if capture in self._sums else (None, None, self._padded(capture))
            for capture in self._captures
        ]

    def _padded(self, capture: Capture) -> list[tuple[Tensor, Tensor]]:
        rows = [torch.cat(pieces, dim=1) if pieces else None for pieces in self._kept[capture]]
        present = [row for row in rows if row is not None]
        if not present:
            return []
        n_layers, _, d_model = present[0].shape
        width = max(row.shape[1] for row in present)
        values = torch.zeros(n_layers, len(rows), width, d_model, dtype=torch.float32)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for place, row in enumerate(rows):
            if row is not None:
                values[:, place, : row.shape[1]] = row
                mask[place, : row.shape[1]] = True
        return [(values, mask)]


class Stretch:
    """Consecutive tokens of one row in one call.

    Args:
        row: of the batch.
        first: place of the first of them in the row.
        count: how many.
        n_prompt: prompt tokens of the row.
    """

    def __init__(self, row: int, first: int, count: int, n_prompt: int) -> None:
        self.row, self.first, self.count, self.n_prompt = row, first, count, n_prompt

    def places(self, capture: Capture) -> range:
        """Which of its tokens a capture reads, counted from the first of them."""
        begin, end = _READ[capture.positions](self.n_prompt)
        low = max(0, begin - self.first)
        return range(low, max(low, min(self.count, self.count if end is None else end - self.first)))


_READ: Mapping[str, Callable[[int], tuple[int, int | None]]] = {
    "all": lambda n_prompt: (0, None),
    "prompt": lambda n_prompt: (0, n_prompt),
    "prompt_last": lambda n_prompt: (n_prompt - 1, n_prompt),
    "answer": lambda n_prompt: (n_prompt, None),
}
"""First place and the place after the last, as in `Spans.reading`."""
