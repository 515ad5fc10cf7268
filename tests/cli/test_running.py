"""What every command has in common while it runs: threads, a profile, and ending when it is told to."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persona_interp.cli import build_parser, entry
from persona_interp.errors import InvalidInputError
from persona_interp.locks import folder_lock


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The commands, those within commands included."""
    within = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in within:
        for each in action.choices.values():
            yield from leaves(each)
    if not within:
        yield parser


def test_every_command_takes_threads_and_a_profile() -> None:
    found = list(leaves(build_parser()))
    assert len(found) > 30
    for parser in found:
        assert {"--threads", "--profile"} <= set(parser._option_string_actions), parser.prog


def test_threads_below_one_are_refused(run: Callable) -> None:
    assert "must be at least 1" in run("traits", "list", "--threads", "0").err


def test_threads_reach_the_computing_libraries(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert run("traits", "list", "--threads", "1").code == 0
    assert run("traits", "list").code == 0
    assert asked == [1]


def test_a_profile_says_what_each_step_took(
    run: Callable, tmp_path: Path, tiny_model_path: Callable[[str], Path], trait_file: Path
) -> None:
    path = tmp_path / "profile.json"
    words = ("--trait", trait_file, "--samples", "1", "--judge", "none", "--max-new-tokens", "4", "--layer-scores", "none")
    output = str(tmp_path / "v.json")
    ran = run("extract-vectors", "--model", str(tiny_model_path("qwen2")), *words, "--output", output, "--profile", str(path))
    assert ran.code == 0, ran.err
    found = json.loads(path.read_text())
    assert found["ended"] == "worked"
    assert found["command"][0] == "extract-vectors"
    rows = {row["step"]: row for row in found["steps"]}
    assert list(rows)[:3] == ["the whole command", "loading tiny-qwen2", "loud: rollouts"]
    made, whole = rows["tiny-qwen2: generating tokens"], rows["the whole command"]
    assert made["depth"] == 2
    rollouts = [json.loads(line) for line in (tmp_path / "v.run" / "rollouts.jsonl").read_text().splitlines()]
    assert made["tokens_written"] == sum(len(each["answer_ids"]) for each in rollouts) == whole["tokens_written"]
    assert made["tokens_read"] == sum(len(each["prompt_ids"]) for each in rollouts)
    assert whole["seconds"] >= rows["loud: rollouts"]["seconds"] >= made["seconds"] > 0
    assert all(row["peak_mib"] > 50 for row in rows.values())
    assert found["threads"] >= 1


def test_a_command_that_fails_writes_its_profile_too(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise InvalidInputError("no")

    monkeypatch.setattr(entry.traits, "list_traits", fail)
    assert run("traits", "list", "--profile", str(tmp_path / "p.json")).code == 2
    assert json.loads((tmp_path / "p.json").read_text())["ended"] == "InvalidInputError"


def test_a_profile_that_cannot_be_written_is_refused_before_anything_runs(run: Callable, tmp_path: Path) -> None:
    ran = run("traits", "list", "--profile", str(tmp_path / "p.txt"))
    assert (ran.code, ran.out) == (2, "")
    assert "name a .json file" in ran.err


def test_an_interrupted_command_says_where_its_work_is(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        for name, file in (("one", "answers.jsonl"), ("empty", "settings.json")):
            with folder_lock(tmp_path / name):
                (tmp_path / name / file).write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.traits, "list_traits", interrupt)
    ran = run("traits", "list")
    assert ran.code == 130
    assert ran.err == f"interrupted. To go on, give the same command again; what was made is in {tmp_path / 'one'}\n"


def test_sigterm_is_an_end_like_ctrl_c_with_a_code_of_its_own(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def killed(_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            closed.append("closed")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(entry.traits, "list_traits", killed)
    ran = run("traits", "list")
    assert (ran.code, ran.err, closed) == (143, "interrupted.\n", ["closed"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_run_in_a_thread_leaves_signals_alone(run: Callable) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(entry.main(["traits", "list"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.slow
def test_sigterm_in_the_middle_of_an_extraction_says_how_to_go_on(tmp_path: Path) -> None:
    words = ("extract-vectors", "--model", "organism-qwen2", "--trait", "silly", "--samples", "4", "--batch-size", "4")
    process = subprocess.Popen(
        [sys.executable, "-m", "persona_interp", *words, "--output", "v.json", "--threads", "1"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    rollouts = tmp_path / "v.run" / "rollouts.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if rollouts.exists() and rollouts.read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert "what was made is in v.run" in said
