"""Models whose weights are installed with a package: they need no hub."""

from __future__ import annotations

from pathlib import Path

from persona_interp.registry import Registry

SHIPPED: Registry[Path] = Registry("shipped model", "persona_interp.shipped_models")
"""Name -> folder."""


def register_shipped_model(name: str, folder: Path) -> None:
    """Let `load_model` know the model in `folder` as `name`.

    Raises:
        InvalidInputError: a shipped model has that name.
    """
    SHIPPED.register(name, folder)


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models whose weights lie in the package (``organism-*``), or in one that plugs into it."""
    return dict(SHIPPED)
