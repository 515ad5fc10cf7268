"""Compiled code does not look for hooks that came after it: while hooks are on a model, nothing runs compiled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_LOCK = threading.Lock()
_OPEN: list[object] = []
_STANCE = ExitStack()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run whatever ``torch.compile`` has made or would make as the plain code it was made of, in every thread, and put that back.

    Nor is anything compiled meanwhile: a graph with the hooks in it would outlive them. Blocks may overlap in any order.
    """
    token = object()
    with _LOCK:
        if not _OPEN:
            _STANCE.enter_context(torch.compiler.set_stance("force_eager"))
        _OPEN.append(token)
    try:
        yield
    finally:
        with _LOCK:
            _OPEN.remove(token)
            if not _OPEN:
                _STANCE.close()
