"""Work kept as it is done: a file of JSON lines under keys, appended to and read back when the same job is run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.storage import read_json, read_jsonl, write_json, write_text


def content_key(*parts: Any) -> str:
    """A key (32 hex digits) that depends on JSON values alone: the same content, the same key, on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class KeyedLog:
    """Entries under keys. An entry is on disk when `put` returns; a line that a crash cut short is dropped.

    Args:
        path: the file; made on the first entry.

    Raises:
        FileFormatError: a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: TextIO | None = None
        self._entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            for number, value in enumerate(read_jsonl(path, "log", forgive_last=True), start=1):
                if not isinstance(value.get("key"), str):
                    raise FileFormatError(f"log {path}, entry {number}, has no key: delete that line; its work is made again")
                self._entries[value["key"]] = value
            self._drop_torn_line()

    def __enter__(self) -> KeyedLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Any]:
        """The entry under `key`.

        Raises:
            KeyError: there is none.
        """
        return self._entries[key]

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        """Write one entry now; one that is already there is left as it is."""
        if key in self._entries:
            return
        line = {"key": key, **entry}
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = self.path.open("a", encoding="utf-8")
            self._handle.write(json.dumps(line) + "\n")  # one call and a flush: a crash cuts the last line short at worst
            self._handle.flush()
        except OSError as error:
            raise PersonaInterpError(
                f"cannot write {self.path}: {error.strerror or error}. What was made so far is kept: make space, and run the "
                "same again"
            ) from error
        self._entries[key] = line

    def _drop_torn_line(self) -> None:
        if not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size:
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in self._entries.values()))


def settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Record what the work in a folder depends on, or compare it with what is recorded there.

    Raises:
        InvalidInputError: the folder holds work done with other settings; names them and the remedy.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    if not path.exists():
        write_json(path, wanted)
        return
    found = read_json(path, "settings")
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if differing:
        said = "; ".join(f"{name}: {found.get(name)!r:.60} there, {wanted.get(name)!r:.60} asked for" for name in differing)
        raise InvalidInputError(
            f"{path.parent} holds work done with other settings ({said}): ask for the same, give another folder, or delete it"
        )
