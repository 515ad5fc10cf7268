"""Work kept as it is done: files of JSON lines that are only appended to, by one writer at a time, and read back by the next run.

A line is on disk when `append` or `put` returns. Reading takes no lock and changes nothing. A line that a crash cut short is
passed over when reading and cut off before the next one is written; only the holder of the file's lock does that, so no line
that somebody is writing is ever taken for one. What other processes append meanwhile is seen before anything is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from persona_interp.characters import check_value
from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.locks import locked
from persona_interp.storage import read_json, write_json

_PATIENCE = 60.0
"""Seconds to wait for others to finish their line; they take microseconds, unless their disk or they themselves are stopped."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def content_key(*parts: Any) -> str:
    """A key (32 hex digits) that depends on JSON values alone: the same content, the same key, on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class JsonlFile:
    """JSON objects, one a line, that several processes may append to.

    Args:
        path: the file; made on the first line.
        seen: is told (line number, object) of every line once, those of others included.

    Raises:
        FileFormatError: a line is damaged; names it.
    """

    def __init__(self, path: Path, seen: Callable[[int, dict[str, Any]], None] | None = None) -> None:
        self.path = path
        self._seen = seen
        self._end = 0
        self._number = 0
        self._unended = False
        self.refresh()

    def refresh(self) -> None:
        """See what was appended since, by anybody."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._end:  # somebody took lines out: from the start again
            self._end = self._number = 0
            self._unended = False
        if size == self._end:
            return
        for number, value, end, unended in self._read(self._end, self._number, self._unended):
            self._end, self._number, self._unended = end, number, unended
            if value is not None and self._seen is not None:
                self._seen(number, value)

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line number, object) of every line, one in memory at a time."""
        for number, value, _, _ in self._read(0, 0, False):
            if value is not None:
                yield number, value

    def append(self, values: Iterable[Mapping[str, Any]], *, unless: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
        """Write objects now, a line each.

        Args:
            values: JSON objects.
            unless: leaves out those of which it is true once everybody's lines have been seen.

        Raises:
            PersonaInterpError: the disk is full, or the file cannot be written. Whole lines are kept.
            InUseError: another process is stopped in the middle of its line.
        """
        # ASCII, since some readers split lines at U+2028, which models do write
        texts = [(value, json.dumps(value).encode("ascii") + b"\n") for value in values]
        lock = self.path.with_name(f".{self.path.name}.lock")
        with locked(lock, patience=_PATIENCE, what=f"the file {self.path}", remedy="let that go on, or end it"):
            self.refresh()
            wanted = [text for value, text in texts if unless is None or not unless(value)]
            if not wanted:
                return
            try:
                self._write(b"".join(wanted))
            except OSError as error:
                raise PersonaInterpError(
                    f"cannot write {self.path}: {error.strerror or error}. What was made so far is kept: make space or give a "
                    "folder that may be written, and run the same again"
                ) from error
            self.refresh()

    def _write(self, text: bytes) -> None:
        with self.path.open("a+b") as handle:
            if handle.seek(0, 2) > self._end:
                handle.truncate(self._end)  # its writer is gone: we hold the lock
            handle.write(b"\n" + text if self._unended else text)

    def _read(self, start: int, number: int, unended: bool) -> Iterator[tuple[int, dict[str, Any] | None, int, bool]]:
        """(line number, object, byte where it ends, whether its line break is missing) from byte `start` on.

        The object is None for an empty line. A last line without a line break counts if it is whole.
        """
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as handle:
                handle.seek(start)
                for line in handle:
                    start += len(line)
                    if unended and line == b"\n":
                        unended = False
                        yield number, None, start, False
                        continue
                    number, unended = number + 1, not line.endswith(b"\n")
                    text = line.removeprefix(_BYTE_ORDER_MARK) if start == len(line) else line
                    if not text.strip():
                        if not unended:
                            yield number, None, start, False
                        continue
                    try:
                        value = json.loads(text.decode("utf-8"))
                        if not isinstance(value, dict):
                            raise ValueError(f"a {type(value).__name__}, expected an object")
                        if b"\\u" in text:  # only an escape can bring half a character in
                            check_value(value, "it")
                    except (ValueError, RecursionError, InvalidInputError) as error:
                        if unended:
                            return  # cut short by a crash, or still being written
                        raise damaged(self.path, number, str(error)) from error
                    yield number, cast("dict[str, Any]", value), start, unended
        except OSError as error:
            raise FileFormatError(f"{self.path} cannot be read: {error.strerror or error}") from error


class JsonlStore:
    """Entries under keys, in a file of JSON lines: one that is there is never made again.

    Example:
        >>> store = JsonlStore(folder / "answers.jsonl")
        >>> if key not in store:
        ...     store.put(key, {"text": answer})
        >>> store.get(key)["text"]

    Args:
        path: the file; made on the first entry.

    Raises:
        FileFormatError: a line is damaged, or has no key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        self._file = JsonlFile(path, self._take)

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
        """Write one entry now; one that is already there is left as it is, whoever made it.

        Raises:
            PersonaInterpError: as `JsonlFile.append`.
        """
        self.put_many({key: entry})

    def put_many(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Write entries now, as `put` does."""
        new = [{"key": key, **entry} for key, entry in entries.items() if key not in self._entries]
        if new:
            self._file.append(new, unless=lambda line: line["key"] in self._entries)

    def refresh(self) -> None:
        """See what others have put there since."""
        self._file.refresh()

    def _take(self, number: int, line: dict[str, Any]) -> None:
        if not isinstance(line.get("key"), str):
            raise damaged(self.path, number, "it has no key")
        self._entries[line["key"]] = line


def damaged(path: Path, number: int, problem: str) -> FileFormatError:
    """The error for a line that cannot be used; the caller raises it."""
    return FileFormatError(f"{path}, line {number}, is damaged ({problem}): delete that line, and what it held is made again")


def check_settings(path: Path, settings: Mapping[str, Any], *, holds: str = "work done", beside: Path | None = None) -> None:
    """Record what the work in a folder depends on, or compare it with what is recorded there.

    Args:
        path: of the record.
        settings: JSON values.
        holds: what the folder holds that was made with them, for the message.
        beside: a file of the work, which must not be there without a record.

    Raises:
        InvalidInputError: the folder holds work done with other settings; names them and the remedy.
        FileFormatError: the record is missing or damaged.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    if not path.exists():
        if beside is not None and beside.exists():
            raise FileFormatError(
                f"{path.parent} holds {beside.name} but no {path.name}: give another folder, or restore that file"
            )
        write_json(path, wanted)
        return
    found = read_json(path, "settings")
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if differing:
        said = "; ".join(f"{name}: {_short(found.get(name))} there, {_short(wanted.get(name))} asked for" for name in differing)
        raise InvalidInputError(
            f"{path.parent} holds {holds} with other settings ({said}): ask for the same, give another folder, or delete this one"
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
