"""Folders that PEFT saves: an adapter, and the name of the model it was trained on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from persona_interp.errors import FileFormatError, MissingExtraError
from persona_interp.storage import read_json

_CONFIG = "adapter_config.json"


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model of its own."""
    return (folder / _CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Name or folder of the model an adapter was trained on.

    Raises:
        MissingExtraError: PEFT is not installed.
        FileFormatError: it is not named.
    """
    name = _field(folder, "base_model_name_or_path")
    if find_spec("peft") is None:
        raise MissingExtraError(
            f"{folder} holds an adapter of {name or 'a model it does not name'}, not a model, and the package peft, which puts "
            "it into the model, is not installed: pip install peft; or merge it where peft is (merge_and_unload(), then "
            "save_pretrained()) and load that folder"
        )
    if not name:
        raise FileFormatError(
            f"{folder / _CONFIG} does not name its base model (base_model_name_or_path): load both with peft yourself and give "
            "load_model() the PeftModel and its tokenizer"
        )
    return name


def base_revision(folder: Path) -> str | None:
    """The revision of that model on the hub, None if it is not recorded."""
    return _field(folder, "revision")


def with_adapter(hf_model: nn.Module, folder: Path) -> nn.Module:
    """`hf_model` with the adapter in its layers, as PEFT wraps it, in evaluation mode.

    Raises:
        FileFormatError: the adapter does not fit the model, or is damaged.
    """
    from peft import PeftModel

    model: Any = hf_model
    try:
        return PeftModel.from_pretrained(model, str(folder), local_files_only=True).eval()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"the adapter in {folder} cannot be put into {type(hf_model).__name__}: {error}") from error


def _field(folder: Path, name: str) -> str | None:
    value = read_json(folder / _CONFIG, "adapter configuration").get(name)
    return value if isinstance(value, str) and value else None
