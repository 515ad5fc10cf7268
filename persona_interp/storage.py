"""Writing files whole or not at all, and reading them with errors a person can act on."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from persona_interp.characters import check_value
from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> Path:
    """The user's data folder: ``PERSONA_INTERP_HOME``, else ``~/.persona_interp``. Not created here."""
    return Path(os.environ.get("PERSONA_INTERP_HOME") or Path.home() / ".persona_interp").expanduser()


def safe_name(name: str, what: str = "name") -> str:
    """`name` if it is safe as a file name (letters, digits, ``. _ -``; no separators), else raise InvalidInputError."""
    if not _SAFE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{what} {name!r} cannot be a file name: use up to 100 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return name


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the whole new one.

    Raises:
        PersonaInterpError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    path = Path(path)
    with _renamed_to(path) as temporary:
        if path.is_dir():
            raise InvalidInputError(f"cannot write {path}: it is a folder; give a file name")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less what the umask takes away
        mode = temporary.stat().st_mode & 0o777
        write(temporary)
        _settle(temporary, mode)
    return path


def write_folder_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary folder beside `path`, then rename it: the whole folder appears, or nothing does.

    Raises:
        InvalidInputError: `path` exists already, as a file or as a folder that is not empty. Nothing is called then.
        PersonaInterpError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    path = Path(path)
    with _renamed_to(path) as temporary:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise InvalidInputError(f"cannot write {path}: it exists already; choose a new folder, or remove this one first")
        temporary.mkdir()
        mode = temporary.stat().st_mode & 0o666
        write(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file, mode)
    return path


@contextmanager
def _renamed_to(path: Path) -> Generator[Path]:
    """A path beside `path` that takes its place at the end of the block; after an error nothing is left there."""
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise PersonaInterpError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder that exists, may be written and has space left"
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _settle(file: Path, mode: int) -> None:
    """Have a file reach the disk, with that mode: safetensors makes files only their owner can read."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.chmod(mode)


def ensure_writable(path: Path, *, space: int = 4096) -> Path:
    """Raise now if `path` could not be written later: what takes hours should not fail at its last line.

    Args:
        space: bytes that must be free on the disk; a small result needs a block of it.

    Raises:
        PersonaInterpError: the folder cannot be made or written, or has too little space.
        InvalidInputError: `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInputError(f"cannot write {path}: it is a folder; give a file name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            disk = shutil.disk_usage(path.parent)
    except OSError as error:
        raise PersonaInterpError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder that exists, may be written and has space left"
        ) from error
    if disk.total and disk.free < space:  # some network folders say nothing of their size
        raise PersonaInterpError(
            f"cannot write {path}: {disk.free} bytes free, about {space} needed. Free some space, or choose another disk"
        )
    return path


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: _dump(temporary, text))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically. Libraries that write files themselves report a full disk in words of their own; bytes do not."""
    return write_atomically(path, lambda temporary: _dump_bytes(temporary, content))


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write JSON atomically. NaN and infinities are refused: they are not JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise InvalidInputError(f"cannot write {path}: it holds NaN or infinite values, which JSON has no word for") from error
    return write_text(path, text)


def _dump(path: Path, text: str) -> None:
    # names of files may hold bytes that are no text; an escape is what JSON has for them too
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _dump_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def check_format_version(data: Mapping[str, Any], version: int, source: str) -> None:
    """Raise FileFormatError unless `data`, read from `source`, was written in format `version`."""
    if data.get("format_version") != version:
        raise FileFormatError(f"{source}: format_version {data.get('format_version')!r} is not {version}")


def read_json(path: Path, what: str = "file") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileFormatError: the file is missing, unreadable, not JSON (with line and column), or not an object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a byte order mark first
    except FileNotFoundError as error:
        raise FileFormatError(f"{what} {path} does not exist: check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{what} {path} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{what} {path} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg}); "
            "it may be truncated or hand-edited"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested too deep
        raise FileFormatError(f"{what} {path} cannot be read: {error}; it may be hand-edited or no such file at all") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{what} {path} holds a {type(value).__name__}, expected a JSON object")
    return cast(dict[str, Any], value)


def read_jsonl(path: Path, what: str = "file", *, forgive_last: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; blank lines are skipped.

    Args:
        forgive_last: accept a broken last line, which is what a killed writer leaves behind.

    Raises:
        FileFormatError: the file is missing, or a line is not a JSON object or holds half of a character (with its number).
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines(): it breaks at U+2028, which JSON allows
    except FileNotFoundError as error:
        raise FileFormatError(f"{what} {path} does not exist: check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{what} {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if forgive_last and number == len(lines):
                return
            raise FileFormatError(f"{what} {path}, line {number}, is not valid JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{what} {path}, line {number}, cannot be read: {error}") from error
        if not isinstance(value, dict):
            raise FileFormatError(f"{what} {path}, line {number}, holds a {type(value).__name__}, expected an object")
        found = cast(dict[str, Any], value)
        try:
            if "\\u" in line:  # only an escape can bring one in
                check_value(found, f"{what} {path}, line {number},")
        except InvalidInputError as error:
            raise FileFormatError(str(error)) from error
        yield found
