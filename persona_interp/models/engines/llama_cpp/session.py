"""llama.cpp's model and contexts as Python objects that free what they hold, and calls of them on several rows at once."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, PersonaInterpError
from persona_interp.models.engines.llama_cpp.activations import Tap
from persona_interp.models.engines.llama_cpp.control_vectors import ControlVector
from persona_interp.models.engines.llama_cpp.library import llama_cpp, quiet_llama

TOKENS_PER_CALL = 512
"""Logits of so many tokens are made at once at most, which bounds llama.cpp's own buffers."""
_CELLS = 256  # llama.cpp rounds the length of a row up to this
_FLOAT32, _FLOAT16 = 0, 1
_REFUSED = 3  # as in `load_trial`
_TRIAL = Path(__file__).with_name("load_trial.py")


class LlamaWeights:
    """A loaded GGUF model.

    Files that make llama.cpp abort are met by a trial in a process of its own, so that this one survives.

    Args:
        path: of the file.
        trial: whether to try it out first.
        vocab_only: load the vocabulary and no weights, of which there is nothing to try out.

    Attributes:
        vocab: llama.cpp's handle of the vocabulary.
        n_layers: number of blocks.

    Raises:
        FileFormatError: llama.cpp refuses the file, with its reason.
    """

    def __init__(self, path: Path, *, trial: bool = True, vocab_only: bool = False) -> None:
        self._library = llama_cpp()
        if trial and not vocab_only:
            _try_out(path)
        settings = self._library.llama_model_default_params()
        # AMX kernels of quantized matrices crashed the process on a CPU that has AMX; all other kernels are in any case there
        settings.use_extra_bufts = False
        settings.vocab_only = vocab_only
        with quiet_llama() as words:
            self._library.llama_backend_init()
            handle = self._library.llama_model_load_from_file(bytes(path), settings)
            if handle:
                self._free = weakref.finalize(self, _quietly, self._library.llama_model_free, handle)
        if not handle:
            raise FileFormatError(f"llama.cpp cannot load {path}: {words}. Download or export it again")
        self._handle: Any = handle
        self.vocab = self._library.llama_model_get_vocab(handle)
        self.n_layers = int(self._library.llama_model_n_layer(handle))

    @property
    def handle(self) -> Any:
        """llama.cpp's handle.

        Raises:
            PersonaInterpError: the model is closed.
        """
        if not self._free.alive:
            raise PersonaInterpError("this GGUF model is closed: load it again")
        return self._handle

    def close(self) -> None:
        """Free it; once is enough, twice does no harm. Contexts must be closed before."""
        self._free()


class LlamaContext:
    """Rows of tokens under way in one model, each with its own keys and values.

    Rows are streams of their own in llama.cpp's cache: with one cache for all, every token would look at the cells of every row,
    and 64 rows of an organism took thirteen times as long.

    Args:
        weights: kept alive.
        n_rows: at most.
        n_tokens: of a row at most.
        n_threads: to compute with.
        tap: reads residuals; None where nothing will be read, which is a little faster.
        exact_cache: keys and values in float32 instead of float16.
        branching: one cache for all rows, so that a row can begin where another one is, see `branch`; `n_tokens` is then the sum.

    Raises:
        MemoryError: too little memory; who runs batches then tries with fewer rows.
        PersonaInterpError: llama.cpp refuses for another reason.
    """

    def __init__(
        self,
        weights: LlamaWeights,
        *,
        n_rows: int,
        n_tokens: int,
        n_threads: int,
        tap: Tap | None = None,
        exact_cache: bool = True,
        branching: bool = False,
    ) -> None:
        self._library, self._weights, self._tap = llama_cpp(), weights, tap
        self.n_rows, self.n_tokens = n_rows, -(-n_tokens // _CELLS) * _CELLS
        settings = self._library.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = self.n_tokens * (1 if branching else self.n_rows), self.n_rows
        settings.n_batch = settings.n_ubatch = TOKENS_PER_CALL
        settings.kv_unified = branching
        settings.n_threads = settings.n_threads_batch = n_threads
        settings.type_k = settings.type_v = _FLOAT32 if exact_cache else _FLOAT16
        settings.flash_attn_type = 0  # it computes in half precision
        settings.no_perf = True
        if tap is not None:
            settings.cb_eval = tap.callback
        with quiet_llama() as words:
            handle = self._library.llama_init_from_model(weights.handle, settings)
            if handle:
                self._free = weakref.finalize(self, _quietly, self._library.llama_free, handle)
        if not handle and "alloc" in str(words):
            raise MemoryError(f"llama.cpp could not allocate {n_rows} rows of {n_tokens} tokens: {words}")
        if not handle:
            raise PersonaInterpError(f"llama.cpp could not open {n_rows} rows of {n_tokens} tokens: {words}. Use fewer at a time")
        self._handle: Any = handle
        self._n_vocab = int(self._library.llama_vocab_n_tokens(weights.vocab))
        self._steered = self._used = False

    @property
    def reads(self) -> bool:
        """Whether it has a tap."""
        return self._tap is not None

    def fits(self, n_rows: int, n_tokens: int) -> bool:
        """Whether so many rows of that length can be under way."""
        return n_rows <= self.n_rows and n_tokens <= self.n_tokens

    def steer(self, vector: ControlVector | None) -> None:
        """Add `vector` to the outputs of blocks 1, 2, ... from the next call on; None: nothing.

        Raises:
            PersonaInterpError: llama.cpp refuses it.
        """
        if vector is None:
            if self._steered:
                with quiet_llama():
                    self._library.llama_set_adapter_cvec(self._handle, None, 0, 0, 0, 0)
                self._steered = False
            return
        data = np.ascontiguousarray(vector.numpy(), dtype=np.float32)
        self._steered = self._used = True
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        with quiet_llama() as words:
            failed = self._library.llama_set_adapter_cvec(self._handle, pointer, data.size, data.shape[1], 1, len(data))
        if failed:
            raise PersonaInterpError(f"llama.cpp refused a control vector of {list(data.shape)}: {words}")

    def forget(self) -> None:
        """End all rows and take the control vector off: what comes next is as in a new context, to the bit."""
        self.steer(None)
        memory = self._library.llama_get_memory(self._handle)
        # stale cells are masked, but zero times the NaN or infinity that steering can leave there is NaN
        self._library.llama_memory_clear(memory, self._used)
        self._used = False

    def branch(self, rows: range) -> None:
        """Let each of `rows` begin with the tokens of row 0, which are not copied."""
        memory = self._library.llama_get_memory(self._handle)
        for row in rows:
            self._library.llama_memory_seq_cp(memory, 0, row, -1, -1)

    def drop(self, row: int, first: int) -> None:
        """Forget the tokens of `row` from place `first` on."""
        self._library.llama_memory_seq_rm(self._library.llama_get_memory(self._handle), row, first, -1)

    def call(
        self,
        rows: range,
        tokens: Sequence[Sequence[int]],
        first: Sequence[int],
        keep: Sequence[Sequence[bool]],
        *,
        logits: bool = True,
    ) -> Float[Tensor, "kept vocab"]:
        """Run the same number of tokens of each of several neighbouring rows.

        One call of llama.cpp, undivided, so that residuals are seen in the order given.

        Args:
            rows: which.
            tokens: ids, one sequence a row.
            first: the place of each row's first token.
            keep: the tokens whose logits are wanted.
            logits: whether to fetch them.

        Returns:
            Their logits, in order.

        Raises:
            PersonaInterpError: llama.cpp failed.
        """
        width = len(tokens[0])
        ids = np.array([token for row in tokens for token in row], dtype=np.int32)
        places = (np.array(first, dtype=np.int32)[:, None] + np.arange(width, dtype=np.int32)).ravel()
        streams = np.repeat(np.arange(rows.start, rows.stop, dtype=np.int32), width)
        wanted = np.array([flag for row in keep for flag in row], dtype=np.int8)
        ones = np.ones(len(ids), dtype=np.int32)
        pointers = (streams.ctypes.data + streams.itemsize * np.arange(len(ids))).astype(np.uintp)
        batch = self._library.llama_batch()
        batch.n_tokens = len(ids)
        batch.token, batch.pos, batch.n_seq_id = (_int32s(array) for array in (ids, places, ones))
        batch.seq_id = pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        batch.logits = wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        with quiet_llama() as words:
            status = self._library.llama_decode(self._handle, batch)
        if status:
            raise PersonaInterpError(f"llama.cpp failed ({status}) on {len(rows)} rows of {width} tokens: {words}")
        return self._logits(int(wanted.sum()) if logits else 0)

    def reading_call(
        self,
        rows: range,
        tokens: Sequence[Sequence[int]],
        first: Sequence[int],
        keep: Sequence[Sequence[bool]],
        *,
        layers: Collection[int],
        stop_after: int | None,
    ) -> tuple[Float[Tensor, "kept vocab"], dict[int, Float[Tensor, "token d_model"]]]:
        """`call`, and the outputs of `layers` for every token. With `stop_after` no logits, and no block above it is run."""
        if self._tap is None:
            raise RuntimeError("this context was made without a tap")
        # the last block drops tokens that nobody wants logits of
        every = [[True] * len(row) for row in tokens] if max(layers) == self._weights.n_layers - 1 else keep
        self._tap.open(layers, stop_after)
        try:
            logits = self.call(rows, tokens, first, every, logits=stop_after is None)
        except BaseException:
            self._tap.discard()
            raise
        found = self._tap.close(len(tokens) * len(tokens[0]))
        if every is not keep and stop_after is None:
            logits = logits[torch.tensor([flag for row in keep for flag in row], dtype=torch.bool)]
        return logits, found

    def _logits(self, count: int) -> Float[Tensor, "kept vocab"]:
        if not count:
            return torch.zeros(0, self._n_vocab, dtype=torch.float32)
        logits = np.ctypeslib.as_array(self._library.llama_get_logits(self._handle), shape=(count, self._n_vocab))
        return torch.from_numpy(logits.copy())

    def close(self) -> None:
        """Free it."""
        self._free()


def _int32s(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))


def _quietly(free: Callable[[Any], None], handle: Any) -> None:
    with quiet_llama():
        free(handle)


def _try_out(path: Path) -> None:
    quick = {**os.environ, "GGML_NO_BACKTRACE": "1"}  # else it looks for a debugger first
    done = subprocess.run([sys.executable, str(_TRIAL), str(path)], capture_output=True, text=True, check=False, env=quick)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    asserted = [line for line in lines if "ASSERT" in line] or lines or [f"exit code {done.returncode}"]
    reason, what = done.stdout.strip() or asserted[-1], "refuses" if done.returncode == _REFUSED else "crashes on"
    raise FileFormatError(f"llama.cpp {what} {path} ({reason:.300}): download or export it again")
