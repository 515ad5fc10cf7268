"""Output that cannot hold a character, or that nobody reads to its end: results are written all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.errors import PersonaInterpError

PIE = "\U0001f967"


def narrow(folder: Path, *words: object, encoding: str = "cp1252") -> subprocess.CompletedProcess[bytes]:
    """The command with an output that has only Western characters."""
    roots = os.pathsep.join([str(Path(__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": roots, "PERSONA_INTERP_HOME": str(folder)}
    command = [sys.executable, "-m", "persona_interp", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, check=False)


def test_monitor_shows_a_question_mark_and_writes_the_character(
    tmp_path: Path, tiny_model_path: Callable[[str], Path], vector_file: Path
) -> None:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"prompt": "What is tea?", "response": f"A {PIE} pie."}), encoding="utf-8")
    ran = narrow(
        tmp_path, "monitor", "--model", tiny_model_path("qwen2"), "--vectors", vector_file, "--input", "chat.jsonl", "--layer", 1,
        "--output", "mon",
    )  # fmt: skip
    assert (ran.returncode, b"Traceback" in ran.stderr) == (0, False), ran.stderr
    assert b"A ? pie." in ran.stdout
    assert PIE in json.dumps(json.loads((tmp_path / "mon/monitor.json").read_text(encoding="utf-8")), ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_traits_are_listed_whatever_they_are_about(tmp_path: Path, trait_file: Path, encoding: str) -> None:
    trait = json.loads(trait_file.read_text())
    trait_file.write_text(json.dumps({**trait, "description": f"Bakes {PIE} – and more."}))
    assert narrow(tmp_path, "traits", "add", trait_file, encoding=encoding).returncode == 0
    for words in (["list"], ["show", "loud"]):
        ran = narrow(tmp_path, "traits", *words, encoding=encoding)
        assert (ran.returncode, b"Bakes ? " in ran.stdout) == (0, True), ran.stderr


def test_bytes_that_are_no_text_on_the_command_line_are_refused_in_words(
    tmp_path: Path, tiny_model_path: Callable[[str], Path], vector_file: Path
) -> None:
    ran = narrow(
        tmp_path, "apply-steering", "--model", tiny_model_path("qwen2"), "--vectors", vector_file, "--prompt", "How \udcff?"
    )
    assert (ran.returncode, b"Traceback" in ran.stderr) == (2, False), ran.stderr
    assert b"the prompt holds half of a character" in ran.stderr


@pytest.mark.parametrize("command", ["monitor", "apply-steering"])
def test_results_are_written_before_they_are_shown(
    command: str,
    run: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model_path: Callable[[str], Path],
    vector_file: Path,
) -> None:
    from persona_interp.cli import tables

    def broken() -> None:
        raise PersonaInterpError("nothing can be shown")

    monkeypatch.setattr(tables, "console", broken)
    common = ("--model", tiny_model_path("qwen2"), "--vectors", vector_file, "--layer", 1, "--output", "out.json")
    Path("chat.jsonl").write_text(json.dumps({"prompt": "What is tea?", "response": "A leaf."}))
    own = ("--input", "chat.jsonl") if command == "monitor" else ("--prompt", "What is tea?", "--max-new-tokens", 4)
    assert run(command, *own, *common).code == 2
    assert json.loads(Path("out.json").read_text())
