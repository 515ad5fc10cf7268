"""Where a model's files are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are.

    Attributes:
        name: what results call the model.
        location: a folder or file if `local`, else a hub id or whatever else an engine opens.
        local: whether it is on this machine.
        gguf: whether it is a GGUF file.
        engine: which runs it where nobody says otherwise.
    """

    name: str
    location: str
    local: bool
    gguf: bool = False
    engine: str = "torch"

    @property
    def is_hugging_face(self) -> bool:
        """Whether it is a folder, or the id of a repository on the hub."""
        return Path(self.location).is_dir() if self.local else HUB_ID.fullmatch(self.location) is not None
