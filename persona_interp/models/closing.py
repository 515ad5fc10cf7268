"""What is freed at a stated time instead of when nobody refers to it any more."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

_Thing = TypeVar("_Thing", bound="Closing")


class Closing:
    """Something to be used in a ``with`` block and closed at its end.

    Models held by another library (llama.cpp) free their memory then; those of PyTorch need no closing and stay usable.
    """

    def close(self) -> None:
        """Free what is held outside Python. Twice does no harm."""

    def __enter__(self: _Thing) -> _Thing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
