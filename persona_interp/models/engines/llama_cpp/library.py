"""llama.cpp as llama-cpp-python brings it: imported on first use, and quiet, but for what it says when something fails."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from persona_interp.errors import missing_extra

_WORTH_KEEPING = (3, 4)  # warnings and errors, in the numbers of ggml.h
_LOCK = threading.RLock()


def llama_cpp() -> Any:
    """The low-level module of llama-cpp-python.

    Raises:
        MissingExtraError: the extra ``gguf`` is not installed.
    """
    try:
        import llama_cpp as library
    except ImportError as error:
        raise missing_extra("running a GGUF model", "gguf") from error
    _settle_null_files()
    return library


@cache
def _settle_null_files() -> None:
    """Keep llama-cpp-python's null files from being reported as unclosed when the interpreter ends.

    It opens two at import and never closes them, because its own objects may write there until the very end. Files that do not
    own their descriptor serve it as long, and nobody expects them to be closed.
    """
    from llama_cpp import _utils

    for name in ("outnull_file", "errnull_file"):
        theirs = getattr(_utils, name, None)
        if theirs is not None:
            setattr(_utils, name, open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))  # noqa: SIM115
            theirs.close()


def gguf() -> Any:
    """The package that knows the format.

    Raises:
        MissingExtraError: the extra ``gguf`` is not installed.
    """
    try:
        import gguf as package
    except ImportError as error:
        raise missing_extra("a GGUF file", "gguf") from error
    return package


@cache
def ggml() -> ctypes.CDLL:
    """The tensor library under llama.cpp, with the functions that read a tensor declared."""
    from pathlib import Path

    folder = Path(llama_cpp().__file__).parent / "lib"
    name = next(path for path in sorted(folder.iterdir()) if "ggml-base." in path.name)
    library = ctypes.CDLL(str(name))
    library.ggml_get_name.argtypes = [ctypes.c_void_p]
    library.ggml_get_name.restype = ctypes.c_char_p
    library.ggml_nelements.argtypes = [ctypes.c_void_p]
    library.ggml_nelements.restype = ctypes.c_int64
    library.ggml_nbytes.argtypes = [ctypes.c_void_p]
    library.ggml_nbytes.restype = ctypes.c_size_t
    library.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.ggml_backend_tensor_get.restype = None
    return library


class LastWords:
    """The last warnings and errors of llama.cpp."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=4)

    def __str__(self) -> str:
        return "; ".join(self.lines) or "it does not say why"


@contextmanager
def _interruption_waits() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # Python interrupts no other thread
        return
    waiting: list[Any] = []
    signal.signal(signal.SIGINT, lambda *details: waiting.append(details))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            before(*waiting[0])


@contextmanager
def quiet_llama() -> Iterator[LastWords]:
    """Keep llama.cpp from printing while it is called; what it would have said about failures is in the value given.

    Its log is one for the whole process: whoever logs through it gets it back afterwards. Ctrl-C is raised at the end of the
    block, which should hold a single call: raised in a function that C calls back, it would be printed and lost.
    """
    library, words = llama_cpp(), LastWords()

    def keep(level: int, text: bytes, data: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level in _WORTH_KEEPING and line:
            words.lines.append(line)

    callback = library.llama_log_callback(keep)
    with _LOCK, _interruption_waits():
        before, data = library.llama_log_callback(), ctypes.c_void_p()
        library.llama_log_get(ctypes.byref(before), ctypes.byref(data))
        library.llama_log_set(callback, None)
        try:
            yield words
        finally:
            library.llama_log_set(before, data)
