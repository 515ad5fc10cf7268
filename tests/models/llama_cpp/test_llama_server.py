"""A server that cannot come up says so in words; one that can is used by the tests of endpoints."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, MissingExtraError, PersonaInterpError
from persona_interp.models.engines.llama_cpp.server import llama_server


def test_what_is_not_there_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"gone\.gguf does not exist"), llama_server(tmp_path / "gone.gguf"):
        pass


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(MissingExtraError, match=r"persona-interp\[server\]"), llama_server(tmp_path / "a.gguf"):
        pass


def test_a_server_that_ends_is_quoted_and_none_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing more")
    started: list[Any] = []

    class Noted(subprocess.Popen):  # pyright: ignore[reportMissingTypeArgument]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(PersonaInterpError, match=r"did not come up \(exit code \d+\); it said: (.|\n)*"):  # noqa: SIM117
        with llama_server(tmp_path / "broken.gguf"):
            pass
    assert [process.poll() is None for process in started] == [False]
