"""Jobs: watched, stopped, and ended with the error they ended with."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.sessions import Sessions
from persona_interp.errors import InvalidInputError
from persona_interp.progress import say, track


def test_what_is_shown_last_is_always_seen() -> None:
    def work(job: Job[int]) -> None:
        for number in range(50):
            job.show(number)

    assert Job(work).start().result() == 49


def test_progress_of_a_job_within_a_job_is_a_share_of_the_whole() -> None:
    seen: list[tuple[str, float | None]] = []

    def work(job: Job[int]) -> None:
        say("a note")
        with track(4, "outer") as outer:
            outer.advance()
            with track(2, "inner") as inner:
                inner.advance()
                seen.append((job.progress.doing, job.progress.share))
            outer.part = 3
            with track(2, "inner") as inner:
                inner.advance(2)
                seen.append((job.progress.doing, job.progress.share))
            with track(2, "judging the same") as inner:
                inner.advance()
                seen.append((job.progress.doing, job.progress.share))
        job.show(1)

    job: Job[int] = Job(work)
    job.start().result()
    assert seen == [("outer", 0.25 + 0.125), ("outer", 1.0), ("outer", 1.0)]
    assert job.progress.notes == ("a note",)


def test_an_error_of_the_work_reaches_who_waits() -> None:
    def work(_job: Job[int]) -> None:
        raise InvalidInputError("no such thing")

    with pytest.raises(InvalidInputError, match="no such thing"):
        Job(work).start().result()


def test_a_stopped_job_ends_at_its_next_step_and_its_waiter_at_once() -> None:
    going, ended = threading.Event(), threading.Event()

    def work(job: Job[int]) -> None:
        try:
            with track(10**9, "endless") as bar:
                while True:
                    bar.advance()
                    going.set()
                    time.sleep(0.001)
        finally:
            ended.set()

    job: Job[int] = Job(work)
    updates = job.start().updates()
    next(updates)
    assert going.wait(5)
    job.stop()
    with pytest.raises(Stopped):
        list(updates)
    assert ended.wait(5)


def test_who_stops_waiting_stops_the_work() -> None:
    ended = threading.Event()

    def work(job: Job[int]) -> None:
        try:
            while True:
                job.show(1)
                time.sleep(0.001)
        finally:
            ended.set()

    updates = Job(work).start().updates()
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    assert ended.wait(5)


def test_a_new_job_in_the_same_place_stops_the_one_before_and_no_other() -> None:
    sessions = Sessions()
    session, other = sessions.of("one"), sessions.of("two")

    def work(job: Job[Any]) -> None:
        while True:
            job.check()
            time.sleep(0.001)

    first, elsewhere, others = session.start("steer", work), session.start("chat", work), other.start("steer", work)
    second = session.start("steer", work)
    assert [job.stopped for job in (first, second, elsewhere, others)] == [True, False, False, False]
    assert session.stop("steer")
    assert not session.stop("nowhere")
    sessions.close()
    for job in (first, second, elsewhere, others):
        job.join(5)
        assert not job.running
    assert not sessions.folder.exists()


def test_a_session_that_ends_takes_its_jobs_and_files_with_it() -> None:
    sessions = Sessions()
    session = sessions.of("one")
    (session.folder / "vector.json").write_text("{}")
    job = session.start("steer", lambda job: threading.Event().wait(0.05) and None)
    sessions.drop("one")
    assert job.stopped
    assert not session.folder.exists()
    assert sessions.of("one") is not session
    sessions.close()
