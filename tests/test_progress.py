from __future__ import annotations

import io

import pytest
from rich.console import Console

from persona_interp import progress


def test_a_message_is_one_plain_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("out of memory [bold] " + "x" * 200)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "out of memory [bold] " + "x" * 200 + "\n"


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    with progress.track(3, "reading") as bar:
        bar.advance(2)
        assert bar.done == 2
        bar.advance(2)
        assert bar.done == 3
    assert capsys.readouterr().err == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    return screen


def test_bar_appears_on_a_terminal_once_the_job_is_long(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.track(3, "reading texts") as bar:
        bar.advance()
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    with progress.track(3, "reading texts") as bar:
        bar.advance()
    assert "reading texts" in terminal.getvalue()
    assert "1/3" in terminal.getvalue()


def test_a_bar_inside_a_bar_stays_silent(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    with progress.track(3, "the whole job") as outer:
        outer.advance()
        with progress.track(9, "a part") as inner:
            inner.advance()
    assert "a part" not in terminal.getvalue()


def test_bar_is_gone_after_an_error(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    with pytest.raises(KeyError), progress.track(3, "job") as bar:  # noqa: PT012 (the bar must be up when it fails)
        bar.advance()
        raise KeyError
    assert progress._DRAWN == []
