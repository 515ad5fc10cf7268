"""Lines that several processes append to: none is lost, none is mixed, none is made twice, and a crash costs the last at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError, InUseError, InvalidInputError, PersonaInterpError
from persona_interp.jsonl_store import JsonlFile, JsonlStore, check_settings, content_key
from persona_interp.locks import folder_lock, locked

APPENDING = """
import sys
from pathlib import Path
from persona_interp.jsonl_store import JsonlStore
store, name = JsonlStore(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    store.put(f"{name} {number}", {"text": "x" * (number % 7 * 1000)})
    store.put(f"shared {number}", {"by": name})
"""

HOLDING = """
import sys, time
from pathlib import Path
from persona_interp.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def started(code: str, *args: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`, once it has said its first word."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


# -- one writer at a time ----------------------------------------------------------------------------------------------


def test_two_processes_lose_and_mix_nothing_and_see_what_the_other_made(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    both = [started(APPENDING, path, name, 150) for name in ("one", "two")]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
        assert process.returncode == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    keys = [line["key"] for line in lines]
    assert len(keys) == len(set(keys)) == 450  # the shared ones were put by both, and stand there once
    assert all(len(line.get("text", "")) == int(line["key"].split()[1]) % 7 * 1000 for line in lines if "text" in line)
    assert len(JsonlStore(path)) == 450


def test_opening_a_store_changes_nothing_while_another_process_is_in_the_middle_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with path.open("wb", buffering=0) as other:
        other.write(b'{"key": "a"}\n{"key": "b", "te')
        before = path.stat()
        assert len(JsonlStore(path)) == 1
        other.write(b'xt": 1}\n')
    assert path.stat().st_ino == before.st_ino
    assert JsonlStore(path).get("b") == {"key": "b", "text": 1}


def test_what_others_append_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    mine, theirs = JsonlStore(tmp_path / "s.jsonl"), JsonlStore(tmp_path / "s.jsonl")
    theirs.put("a", {"value": "theirs"})
    assert "a" not in mine
    mine.put("a", {"value": "mine"})
    assert mine.get("a")["value"] == "theirs"
    theirs.put("b", {})
    mine.refresh()
    assert "b" in mine
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 2


def test_a_second_process_in_a_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = started(HOLDING, tmp_path)
    try:
        with pytest.raises(InUseError, match=rf"folder .* is in use by process {first.pid}, since .*another folder"):
            folder_lock(tmp_path).__enter__()
    finally:
        first.kill()
        first.communicate()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    first = started(HOLDING, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    with folder_lock(tmp_path):
        pass


def test_one_who_waits_gets_the_folder_when_it_is_free(tmp_path: Path) -> None:
    first = started(HOLDING, tmp_path)
    code = """
import sys, threading, os
from pathlib import Path
from persona_interp.locks import folder_lock
print("ready", flush=True)
with folder_lock(Path(sys.argv[1]), patience=60):
    print("mine", flush=True)
"""
    second = started(code, tmp_path)
    time.sleep(0.2)
    assert second.poll() is None
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=60)
    assert out == "mine\n"


def test_a_thread_may_take_its_lock_again_and_another_thread_may_not(tmp_path: Path) -> None:
    import threading

    refused: list[BaseException] = []

    def other() -> None:
        try:
            folder_lock(tmp_path).__enter__()
        except InUseError as error:
            refused.append(error)

    with folder_lock(tmp_path), folder_lock(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with folder_lock(tmp_path):
        pass


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    other = started(HOLDING, tmp_path)
    other.kill()
    other.communicate()


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PersonaInterpError, match="cannot write .*may be written"):
        folder_lock(tmp_path / "file" / "run").__enter__()
    with pytest.raises(PersonaInterpError, match="cannot write"), locked(tmp_path / "file" / "x", patience=0, what="", remedy=""):
        pass


# -- crashes -----------------------------------------------------------------------------------------------------------


def test_kill_9_in_the_middle_of_writing_costs_the_last_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    for _ in range(3):
        process = started(APPENDING, path, "one", 100_000)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        before = len(JsonlStore(path))
        while len(JsonlStore(path)) < before + 20:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    store = JsonlStore(path)
    kept = len(store)
    store.put("after", {})
    again = JsonlStore(path)
    assert len(again) == kept + 1 >= 61
    assert len(path.read_text().splitlines()) == len(again)


@pytest.mark.parametrize("tail", [b'{"key": "half', b"nonsense", b"\x00\x00", b"[1, 2", b"\xff"])
def test_a_torn_line_is_passed_over_and_cut_off_before_the_next_one(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "s.jsonl"
    JsonlStore(path).put("a", {})
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    store = JsonlStore(path)
    assert len(store) == 1
    assert path.read_bytes() == whole + tail  # reading changes nothing
    store.put("b", {})
    assert [line["key"] for _, line in JsonlFile(path).lines()] == ["a", "b"]


def test_a_whole_last_line_without_its_break_counts_and_the_next_one_goes_below(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('\ufeff{"key": "a"}\n\n  \n{"key": "b", "text": "\u2028"}', encoding="utf-8")
    store = JsonlStore(path)
    assert store.get("b")["text"] == "\u2028"
    store.put("c", {})
    store.put("d", {})
    assert [(number, line["key"]) for number, line in JsonlFile(path).lines()] == [(1, "a"), (4, "b"), (5, "c"), (6, "d")]


@pytest.mark.parametrize("damage", [b"{broken", b"[]", b"\xff\xfe", b'{"text": 1}', b'{"key": 3}', b"[" * 100_000])
def test_damage_in_the_middle_is_named_by_its_line_and_the_remedy(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + damage + b'\n{"key": "b"}\n')
    with pytest.raises(FileFormatError, match=r"s\.jsonl, line 2, is damaged .*delete that line"):
        JsonlStore(path)


def test_lines_taken_out_by_somebody_do_not_confuse_who_has_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = JsonlStore(path)
    for key in "abc":
        store.put(key, {})
    path.write_text('{"key": "b"}\n')
    store.put("d", {})
    assert [line["key"] for _, line in JsonlFile(path).lines()] == ["b", "d"]


def test_a_full_disk_is_one_error_and_writing_goes_on_later(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from persona_interp.errors import PersonaInterpError
from persona_interp.jsonl_store import JsonlStore
store = JsonlStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 10**9))  # no file may grow beyond, as on a disk that is full
try:
    for number in range(100):
        store.put(str(number), {"text": "x" * 100})
except PersonaInterpError as error:
    print(error)
kept = len(store)
resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))
store.put("later", {})
print(kept)
"""
    path = tmp_path / "s.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, kept = done.stdout.splitlines()
    assert "What was made so far is kept" in said
    assert len(JsonlStore(path)) == int(kept) + 1
    assert "later" in JsonlStore(path)


# -- what the work depends on ------------------------------------------------------------------------------------------


def test_other_settings_are_refused_with_both_values(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    check_settings(path, {"seed": 0, "layers": (1, 2)})
    check_settings(path, {"seed": 0, "layers": [1, 2]})
    with pytest.raises(InvalidInputError, match=r"holds work done with other settings \(seed: 0 there, 1 asked for\)"):
        check_settings(path, {"seed": 1, "layers": [1, 2]})


def test_work_without_its_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text("")
    with pytest.raises(FileFormatError, match=r"rollouts\.jsonl but no settings\.json"):
        check_settings(tmp_path / "settings.json", {}, beside=tmp_path / "rollouts.jsonl")


def test_a_key_is_made_of_content_alone() -> None:
    assert content_key({"a": 1, "b": [2]}, "x") == content_key({"b": [2], "a": 1}, "x") != content_key({"a": 1, "b": [2]}, "y")
