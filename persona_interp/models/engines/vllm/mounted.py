"""nnsight gives every object in Python a method `save`; vLLM refuses a worker extension that shares a name with its worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def unmount() -> bool:
    """Take nnsight's method off `object`, where it is.

    Returns:
        Whether it was.
    """
    if "nnsight" not in sys.modules or not hasattr(object, "save"):
        return False
    from nnsight._c import unmount as take_off

    take_off("save")
    if (operations := sys.modules.get("torch._inductor.ops_handler")) is not None:
        operations.OP_NAMES.discard("save")  # which it took for one of the compiler's own when it looked what there is
    return True


@contextmanager
def unmounted() -> Iterator[None]:
    """Without that method for as long as the block lasts."""
    was = unmount()
    try:
        yield
    finally:
        if was:
            import nnsight
            from nnsight._c import mount

            mount(nnsight.save, "save")
