"""One writer at a time: locks of files and folders, which end with the process that holds them, however it ends.

The operating system keeps them (`filelock`: flock, LockFileEx), so a process that was killed holds none, and there is nothing to
clean up. Within a process the same thread may take a lock again; other threads wait as other processes do.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from persona_interp.errors import InUseError, PersonaInterpError

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOLDER_LOCK = ".lock"
_POLL = 0.02


class _Lock(NamedTuple):
    threads: threading.RLock  # pyright: ignore[reportInvalidTypeForm]  (a function to some versions of the standard library)
    processes: BaseFileLock


_NOTED: ContextVar[list[Path] | None] = ContextVar("noted", default=None)
_KNOWN: dict[str, _Lock] = {}
_KNOWN_GUARD = threading.Lock()


@contextmanager
def folder_lock(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder of work for as long as the block runs; nobody else may work in it meanwhile. Reading needs no lock.

    Args:
        folder: made if it is not there.
        patience: seconds to wait for another holder.

    Raises:
        InUseError: another process (or thread) works in it; names it, and what to do.
        PersonaInterpError: the folder cannot be written.
    """
    path = Path(folder) / FOLDER_LOCK
    with locked(path, patience=patience, what=f"the folder {folder}", remedy="wait until it ends, or give another folder"):
        holder = path.with_name(f"{path.name}.holder")
        told = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        if (noted := _NOTED.get()) is not None:
            noted.append(Path(folder))
        with suppress(OSError):  # says who, to those who are refused; the lock holds without it
            holder.write_text(json.dumps(told), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink(missing_ok=True)


@contextmanager
def noting_folders(noted: list[Path]) -> Iterator[None]:
    """Add to `noted` the folders that are held within the block, by this thread, for `kept_work`."""
    token = _NOTED.set(noted)
    try:
        yield
    finally:
        _NOTED.reset(token)


def kept_work(folders: Iterable[Path]) -> list[Path]:
    """Those of `folders` that hold more than a record of settings, each once; none that lies in another of them."""
    holding = [
        folder
        for folder in dict.fromkeys(folders)
        if folder.is_dir() and any(not path.name.startswith(".") and path.suffix != ".json" for path in folder.iterdir())
    ]
    return [folder for folder in holding if not any(other in folder.parents for other in holding)]


@contextmanager
def locked(path: Path, *, patience: float, what: str, remedy: str) -> Iterator[None]:
    """Hold the lock file `path` for as long as the block runs.

    Args:
        path: of the lock, not of what it guards; its folder is made if it is not there.
        patience: seconds to wait for another holder; 0 tries once.
        what: is guarded, for the message.
        remedy: what somebody who is refused can do.

    Raises:
        InUseError: somebody else holds it; names the process where it said who it is.
        PersonaInterpError: the lock file cannot be made.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    if not lock.threads.acquire(timeout=patience):
        raise InUseError(f"{what} is in use by another thread of this process ({os.getpid()}): {remedy}")
    try:
        try:
            lock.processes.acquire(timeout=patience, poll_interval=_POLL)
        except filelock.Timeout as error:
            raise InUseError(f"{what} is in use by {_holder(path)}: {remedy}") from error
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            yield
        finally:
            lock.processes.release()
    finally:
        lock.threads.release()


def _lock(path: Path) -> _Lock:
    import filelock

    name = str(path.resolve())
    with _KNOWN_GUARD:
        if name not in _KNOWN:
            # one object a path, whatever thread comes: how often it is entered is counted for the path
            _KNOWN[name] = _Lock(threading.RLock(), filelock.FileLock(name, thread_local=False))
        return _KNOWN[name]


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.with_name(f"{path.name}.holder").read_text(encoding="utf-8"))
        where = "" if told["host"] == platform.node() else f" on {told['host']}"
        return f"process {told['pid']}{where}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _unwritable(path: Path, error: OSError) -> PersonaInterpError:
    return PersonaInterpError(
        f"cannot write {path.parent}: {error.strerror or error}. Choose a folder that exists, may be written and has space left"
    )
