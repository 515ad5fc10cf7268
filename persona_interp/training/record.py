"""What a checkpoint's own files say of the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.models.adapter_folder import base_of, holds_adapter
from persona_interp.storage import read_json

_RECORDS = (("persona_interp.json", "model"), ("twin.json", "source"))


def base_named_in(checkpoint: str | Path) -> str:
    """The base model that an adapter, a baked checkpoint or a twin names.

    Raises:
        InvalidInputError: none is named.
        MissingExtraError: an adapter, and peft is not installed.
    """
    folder = Path(checkpoint)
    if folder.is_dir() and holds_adapter(folder):
        return base_of(folder)
    for file, name in _RECORDS:
        if (folder / file).is_file():
            source: Any = read_json(folder / file, "record of a checkpoint").get(name)
            if isinstance(source, Mapping) and source.get("name"):
                return str(source["name"])
    raise InvalidInputError(f"{checkpoint} does not say which model it was made from: name it with --base")
