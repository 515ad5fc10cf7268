"""The folder of an extraction: rollouts and judgements as JSON lines, written as they come, so that nothing is made twice.

``settings.json`` says what the rollouts depend on, ``rollouts.jsonl`` holds them, ``judgements.jsonl`` the scores of one or
several judges, ``residuals/`` what was read from them. A line cut off by a crash is dropped when the folder is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from persona_interp.characters import check_value
from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.storage import read_json, write_json
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.rollouts import Rollout, RolloutKey, Slot

FORMAT_VERSION = 1


class RolloutLog:
    """Rollouts on disk. In memory are their keys only.

    Args:
        folder: made if it is not there.
        settings: what the rollouts depend on (JSON values); a folder made with others is refused.

    Raises:
        InvalidInputError: the folder holds rollouts made with other settings; names them and the remedy.
        FileFormatError: a file of it is damaged.
        PersonaInterpError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._handles: dict[Path, TextIO] = {}
        self._settle({"format_version": FORMAT_VERSION, **settings})
        for path in (self.rollouts_path, self._judgements_path):
            _drop_torn_line(path)
        self._keys = {rollout.key for rollout in self._read()}

    @property
    def rollouts_path(self) -> Path:
        """Where the rollouts are."""
        return self.folder / "rollouts.jsonl"

    @property
    def _judgements_path(self) -> Path:
        return self.folder / "judgements.jsonl"

    def __contains__(self, key: RolloutKey) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, rollout: Rollout) -> None:
        """Write one rollout now; one that is already there is left as it is."""
        if rollout.key not in self._keys:
            self._write(self.rollouts_path, rollout.to_json())
            self._keys.add(rollout.key)

    def scan(self) -> Iterator[Rollout]:
        """The rollouts, read one at a time, each key once."""
        seen: set[RolloutKey] = set()
        for rollout in self._read():
            if rollout.key not in seen:
                seen.add(rollout.key)
                yield rollout

    def judgements(self, judge: str) -> dict[RolloutKey, Judgement]:
        """The scores given so far by the judge that goes by this label."""
        found: dict[RolloutKey, Judgement] = {}
        for number, value in _lines(self._judgements_path):
            try:
                if value["judge"] == judge:
                    slot = Slot(*(int(value[name]) for name in Slot._fields))
                    found[RolloutKey(value["sign"], slot)] = Judgement(value["trait"], value["coherence"])
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(self._judgements_path, number, str(error)) from error
        return found

    def judges(self) -> tuple[str, ...]:
        """The labels of the judges that gave scores, in the order they began."""
        return tuple(dict.fromkeys(str(value.get("judge")) for _, value in _lines(self._judgements_path)))

    def append_judgements(self, judge: str, judged: Sequence[tuple[RolloutKey, Judgement]]) -> None:
        """Write scores now."""
        for key, judgement in judged:
            scores = {"trait": judgement.trait, "coherence": judgement.coherence}
            self._write(self._judgements_path, {"judge": judge, "sign": key.sign, **key.slot._asdict(), **scores})

    def close(self) -> None:
        """Let go of the files."""
        for handle in self._handles.values():
            with suppress(OSError):  # a line that did not fit on the disk is tried again here; its failure was told already
                handle.close()
        self._handles.clear()

    def _read(self) -> Iterator[Rollout]:
        for number, value in _lines(self.rollouts_path):
            yield Rollout.from_json(value, source=f"{self.rollouts_path}, line {number}")

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        try:
            if path not in self._handles:
                self._handles[path] = path.open("a", encoding="utf-8")
            # One call and a flush a line: a crash can cut the last line short, never mix two. ASCII, since some readers split
            # lines at U+2028, which models do write.
            self._handles[path].write(json.dumps(value) + "\n")
            self._handles[path].flush()
        except OSError as error:
            raise PersonaInterpError(
                f"cannot write {path}: {error.strerror or error}. What was made so far is kept: make space or give a folder "
                "that may be written, and run the same extraction again"
            ) from error

    def _settle(self, settings: dict[str, Any]) -> None:
        path = self.folder / "settings.json"
        wanted: dict[str, Any] = json.loads(json.dumps(settings))
        if not path.exists():
            if self.rollouts_path.exists():
                raise FileFormatError(
                    f"{self.folder} holds rollouts but no settings.json: give another folder, or restore that file"
                )
            write_json(path, wanted)
            return
        found = read_json(path, "extraction settings")
        if differing := sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)):
            said = "; ".join(
                f"{name}: {_short(found.get(name))} there, {_short(wanted.get(name))} asked for" for name in differing
            )
            raise InvalidInputError(
                f"{self.folder} holds rollouts made with other settings ({said}): "
                "ask for the same, give another folder, or delete this one"
            )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line, one in memory at a time."""
    if not path.exists():
        return
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
                raise _damaged(path, number, str(error)) from error
            if not isinstance(value, dict):
                raise _damaged(path, number, f"a {type(value).__name__}, expected an object")
            try:
                if b"\\u" in line:  # only an escape can bring one in
                    check_value(value, "it")
            except InvalidInputError as error:
                raise _damaged(path, number, str(error)) from error
            yield number, value


def _drop_torn_line(path: Path) -> None:
    """Cut off what follows the last line break: a line that was not finished."""
    if not path.exists():
        return
    try:
        with path.open("rb+") as handle:
            end = handle.seek(0, 2)
            start = end
            while start > 0:
                step = min(start, 1 << 16)
                start -= step
                handle.seek(start)
                place = handle.read(step).rfind(b"\n")
                if place >= 0:
                    start += place + 1
                    break
            if start < end:
                handle.truncate(start)
    except OSError as error:
        raise PersonaInterpError(f"cannot write {path}: {error.strerror or error}. Give a folder that may be written") from error


def _damaged(path: Path, number: int, problem: str) -> FileFormatError:
    return FileFormatError(f"{path}, line {number}, is damaged ({problem}): delete that line, and what it held is made again")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
