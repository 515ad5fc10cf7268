"""``persona-interp doctor``: placeholder."""
from __future__ import annotations
from typing import Any
def register(commands: Any) -> None:
    """Nothing yet."""
