"""Files are written whole or not at all, and unreadable ones say what is wrong with them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from persona_interp import storage
from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def disk_full(_: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_written_file_reads_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = storage.write_json(tmp_path / "new" / "value.json", {"a": [1, 2.5], "ü": None})
    assert storage.read_json(path) == {"a": [1, 2.5], "ü": None}
    assert entries(path.parent) == ["value.json"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert storage.write_text(tmp_path / "atomic", "x").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_obeyed_and_never_touched_for_all_threads_share_it(
    tmp_path: Path, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def private(path: Path) -> None:
        path.write_text("x")
        path.chmod(0o600)  # as safetensors does

    before = os.umask(mask)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was set"))
        file = storage.write_atomically(tmp_path / "file", private)
        folder = storage.write_folder_atomically(tmp_path / "folder", lambda path: private(path / "inner"))
    finally:
        monkeypatch.undo()
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (file, folder, folder / "inner")]
    assert modes == [0o666 & ~mask, 0o777 & ~mask, 0o666 & ~mask]


def test_disk_full_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PersonaInterpError, match=r"cannot write .*value\.json: No space left on device\. Choose a folder"):
        storage.write_atomically(tmp_path / "value.json", disk_full)
    assert entries(tmp_path) == []


def test_disk_full_keeps_the_old_file(tmp_path: Path) -> None:
    path = storage.write_text(tmp_path / "value.txt", "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        disk_full(temporary)

    with pytest.raises(PersonaInterpError, match="No space left"):
        storage.write_atomically(path, half)
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["value.txt"]


def test_an_error_of_the_writer_or_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    for kind in (ValueError, KeyboardInterrupt):

        def fail(temporary: Path, kind: type[BaseException] = kind) -> None:
            temporary.write_text("half")
            raise kind

        with pytest.raises(kind):
            storage.write_atomically(tmp_path / "value", fail)
    assert entries(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PersonaInterpError, match="cannot write .*Choose a folder"):
        storage.write_text(tmp_path / "file" / "value.json", "x")
    with pytest.raises(PersonaInterpError, match="cannot write .*Choose a folder"):
        storage.ensure_writable(tmp_path / "file" / "value.json")


def test_a_folder_where_the_file_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "value.json").mkdir()
    for write in (lambda path: storage.write_text(path, "x"), storage.ensure_writable):
        with pytest.raises(InvalidInputError, match="it is a folder; give a file name"):
            write(tmp_path / "value.json")
    assert entries(tmp_path) == ["value.json"]


def test_no_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:  # root may write anywhere, so the refusal itself is simulated
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.os, "open", refuse)
    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    with pytest.raises(PersonaInterpError, match="Permission denied"):
        storage.write_text(tmp_path / "value.json", "x")
    with pytest.raises(PersonaInterpError, match="Permission denied"):
        storage.ensure_writable(tmp_path / "value.json")


def test_ensure_writable_writes_nothing(tmp_path: Path) -> None:
    assert storage.ensure_writable(tmp_path / "value.json") == tmp_path / "value.json"
    assert entries(tmp_path) == []


def test_too_little_space_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int = 10
        used: int = 5
        free: int = 5

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    with pytest.raises(PersonaInterpError, match="5 bytes free, about 6 needed"):
        storage.ensure_writable(tmp_path / "value.json", space=6)
    with pytest.raises(PersonaInterpError, match="5 bytes free"):  # a result needs some room, whoever asks
        storage.ensure_writable(tmp_path / "value.json")
    storage.ensure_writable(tmp_path / "value.json", space=5)


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        storage.write_json(tmp_path / "value.json", {"a": float("nan")})
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1, 2', r"not valid JSON \(line 1, column \d+"),
        ("[1]", "holds a list, expected a JSON object"),
    ],
)
def test_unreadable_json_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "value.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        storage.read_json(tmp_path / "value.json", "vector file")


def test_missing_binary_and_folder_paths_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "binary", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(FileFormatError, match=f"vector file .*{message}"):
            storage.read_json(path, "vector file")
        with pytest.raises(FileFormatError, match=f"vector file .*{message}"):
            list(storage.read_jsonl(path, "vector file"))


def test_jsonl_forgives_a_broken_last_line_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n{"a": ')
    assert list(storage.read_jsonl(path, forgive_last=True)) == [{"a": 1}, {"a": 2}]
    with pytest.raises(FileFormatError, match="line 4, is not valid JSON"):
        list(storage.read_jsonl(path))
    path.write_text('{"a": \n{"a": 2}\n')
    with pytest.raises(FileFormatError, match="line 1, is not valid JSON"):
        list(storage.read_jsonl(path, forgive_last=True))
    path.write_text("[1]\n")
    with pytest.raises(FileFormatError, match="line 1, holds a list"):
        list(storage.read_jsonl(path))


@pytest.mark.parametrize("text", ["[" * 200_000, '{"n": ' + "9" * 5000 + "}"])
def test_json_too_deep_or_too_long_to_read_is_an_error_like_any_other(tmp_path: Path, text: str) -> None:
    (tmp_path / "value.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"value\.json cannot be read"):
        storage.read_json(tmp_path / "value.json")
    with pytest.raises(FileFormatError, match=r"value\.json, line 1, cannot be read"):
        list(storage.read_jsonl(tmp_path / "value.json"))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"a": 1}\n', encoding="utf-8-sig")
    assert storage.read_json(tmp_path / "value.json") == {"a": 1}
    assert list(storage.read_jsonl(tmp_path / "value.json")) == [{"a": 1}]


def test_names_that_could_leave_the_folder_are_refused() -> None:
    assert storage.safe_name("silly-2.v1_a") == "silly-2.v1_a"
    for name in ("", "../x", "a/b", ".hidden", "a b", "x" * 101, "a\n"):
        with pytest.raises(InvalidInputError, match="trait name"):
            storage.safe_name(name, "trait name")


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path))
    assert storage.home() == tmp_path
    monkeypatch.setenv("PERSONA_INTERP_HOME", "")
    assert storage.home() == Path.home() / ".persona_interp"


@pytest.mark.parametrize("suffix", ["json", "safetensors", "pt"])
def test_a_write_the_system_cuts_short_is_one_error_in_every_format(tmp_path: Path, suffix: str) -> None:
    code = f"""
import resource, sys, torch
from pathlib import Path
from persona_interp.errors import PersonaInterpError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.persona_vector import PersonaVector
vector = PersonaVector(torch.ones(2, 4096), (0, 1), "silly", ModelIdentity("m", None, "f", 2, 4096))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # no file may grow beyond, as on a disk that is full
try:
    vector.save(Path(sys.argv[1]) / "vector.{suffix}")
except PersonaInterpError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert "Choose a folder" in done.stdout
    assert entries(tmp_path) == []


def test_json_lines_may_hold_any_character_json_allows(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"text": "one\u2028two\u0085three"}\n{"text": "four"}\n', encoding="utf-8")
    assert [row["text"] for row in storage.read_jsonl(path)] == ["one\u2028two\u0085three", "four"]


def test_a_folder_appears_whole_with_the_permissions_of_any_new_folder(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()

    def fill(temporary: Path) -> None:
        assert entries(temporary.parent) in ([temporary.name], [temporary.name, "new", "plain"])
        (temporary / "inner").mkdir()
        (temporary / "inner" / "value.txt").write_text("x")
        (temporary / "inner" / "value.txt").chmod(0o600)

    made = storage.write_folder_atomically(tmp_path / "new" / "made", fill)
    assert (made / "inner" / "value.txt").read_text() == "x"
    assert made.stat().st_mode == plain.stat().st_mode
    assert (made / "inner" / "value.txt").stat().st_mode == storage.write_text(tmp_path / "new" / "x", "x").stat().st_mode
    (tmp_path / "new" / "x").unlink()
    assert entries(tmp_path / "new") == ["made"]
    assert storage.write_folder_atomically(plain, fill) == plain  # empty until now
    assert entries(plain) == ["inner"]


def test_a_folder_or_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path):
        with pytest.raises(InvalidInputError, match="it exists already; choose a new folder"):
            storage.write_folder_atomically(path, disk_full)
    assert (tmp_path / "file").read_text() == "mine"
    assert entries(tmp_path) == ["file"]


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def half(temporary: Path) -> None:
        (temporary / "value.txt").write_text("x")
        disk_full(temporary)

    with pytest.raises(PersonaInterpError, match=r"cannot write .*made: No space left on device\. Choose a folder"):
        storage.write_folder_atomically(tmp_path / "made", half)
    with pytest.raises(ZeroDivisionError):
        storage.write_folder_atomically(tmp_path / "made", lambda _: 1 / 0)
    assert entries(tmp_path) == []
