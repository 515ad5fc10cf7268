"""Where a result came from: versions, command, time, and whatever the caller adds (seeds, model, settings)."""

from __future__ import annotations

import datetime
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_REPORTED = ("persona-interp", "torch", "transformers", "nnsight")


def provenance(**details: Any) -> dict[str, Any]:
    """A JSON-ready record of versions, time and command, with `details` (seed, model identity, ...) beside them."""
    versions = {name: _version(name) for name in _REPORTED}
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions},
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "",
        **details,
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
