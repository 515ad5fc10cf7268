from __future__ import annotations

import io
import logging
import threading
from collections.abc import Sequence

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
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    monkeypatch.setattr(progress, "_on_terminal", lambda: True)
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


class Watching:
    def __init__(self, enough: int = 10**9) -> None:
        self.seen: list[list[tuple[str, int, int]]] = []
        self.lines: list[str] = []
        self.enough = enough

    def moved(self, jobs: Sequence[progress.Track]) -> None:
        self.seen.append([(job.description, job.done, job.total) for job in jobs])
        if jobs[0].done >= self.enough:
            raise KeyError("enough")

    def said(self, message: str) -> None:
        self.lines.append(message)


def test_a_watcher_is_told_of_jobs_and_lines_instead_of_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = Watching()
    with progress.watched(watcher):
        progress.say("a note")
        with progress.track(2, "outer") as outer, progress.track(3, "inner") as inner:
            inner.advance()
            outer.advance()
    with progress.track(5, "unwatched") as bar:
        bar.advance()
    assert watcher.lines == ["a note"]
    assert watcher.seen[0] == [("outer", 0, 2)]
    assert watcher.seen[-1] == [("outer", 1, 2), ("inner", 1, 3)]
    assert capsys.readouterr().err == ""


def test_what_a_watcher_raises_ends_the_job_and_leaves_nothing_watched() -> None:
    watcher = Watching(enough=2)
    with pytest.raises(KeyError, match="enough"), progress.watched(watcher), progress.track(3, "job") as bar:  # noqa: PT012
        bar.advance()
        bar.advance()
    with progress.track(3, "next") as bar:
        bar.advance(3)
    assert len(watcher.seen) == 3


def test_a_watcher_sees_its_own_thread_only() -> None:
    watcher = Watching()

    def elsewhere() -> None:
        with progress.track(1, "elsewhere") as bar:
            bar.advance()

    with progress.watched(watcher):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert watcher.seen == []


# -- what is left ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, as a list of one that tests set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_left_is_said_in_minutes(clock: list[float], terminal: io.StringIO) -> None:
    with progress.track(100, "silly: rollouts") as bar:
        clock[0] = 60.0
        bar.advance(10)
    assert "10/100" in terminal.getvalue()
    assert "about 9 minutes left" in terminal.getvalue()


def test_what_is_left_is_known_from_the_first_batch_on_by_what_is_done_of_it(clock: list[float], terminal: io.StringIO) -> None:
    with progress.track(100, "silly: rollouts") as outer:
        outer.part = 50
        with progress.track(10, "generating tokens") as inner:
            clock[0] = 60.0
            inner.advance()
    assert "about 19 minutes left" in terminal.getvalue()


def test_a_log_gets_a_line_now_and_then_and_not_one_a_step(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.track(1000, "reading") as bar:
        for second in range(1, 1001):
            clock[0] = float(second)
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 1 % done, about 16 minutes left"
    assert 5 <= len(lines) <= 16
    assert lines[-1].endswith(("less than a minute left", "about 1 minute left"))


def test_reading_the_prompts_before_the_first_token_is_not_taken_for_the_pace(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.track(100, "generating tokens") as bar:
        for token in range(1, 4):
            clock[0] = 15.0 + token
            bar.advance()
    assert "generating tokens: 2 % done, about 2 minutes left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (20, "less than a minute left"),
        (61, "about 1 minute left"),
        (700, "about 12 minutes left"),
        (9000, "about 2 h 30 min left"),
    ],
)
def test_times_are_told_as_people_say_them(seconds: float | None, words: str) -> None:
    assert progress.minutes_left(seconds) == words


def test_lines_go_to_the_logger_and_are_printed_unless_it_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[logging.LogRecord] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, handler = logging.getLogger("persona_interp"), Listening()
    progress.say("printed")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        progress.say("a line")
        progress.say("warning: a trap")
    finally:
        logger.removeHandler(handler)
    assert [(each.getMessage(), each.levelname) for each in found] == [("a line", "INFO"), ("warning: a trap", "WARNING")]
    logger.setLevel(logging.ERROR)
    progress.say("unheard")
    logger.setLevel(logging.NOTSET)
    assert capsys.readouterr().err == "printed\n"


def test_a_callback_is_told_beside_the_bars(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    told: list[progress.Progress] = []
    with progress.on_progress(told.append), progress.track(4, "the whole job") as outer:
        outer.part = 2
        with progress.track(10, "a part") as inner:
            inner.advance(5)
    with progress.track(1, "another job") as bar:
        bar.advance()
    assert told[-1] == progress.Progress("the whole job", 0, 4, 0.25)
    assert "the whole job" in terminal.getvalue()
