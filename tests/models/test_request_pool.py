"""Requests run on a few threads, and none of them holds up the end of the program."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import as_completed

import pytest

from persona_interp.models.request_pool import RequestPool


def test_as_many_run_together_as_were_allowed_and_all_come_back() -> None:
    together, pool, both = threading.Barrier(2, timeout=10), RequestPool(2, "test"), []

    def work(number: int) -> int:
        both.append(together.wait())  # passes only where two are under way
        return number

    futures = [pool.submit(work, number) for number in range(6)]
    assert sorted(future.result() for future in as_completed(futures)) == list(range(6))
    assert max(both) == 1
    pool.close()


def test_an_error_is_raised_where_the_result_is_asked_for_and_the_thread_goes_on() -> None:
    pool = RequestPool(1, "test")
    failed, fine = pool.submit(int, "tea"), pool.submit(int, "7")
    with pytest.raises(ValueError, match="tea"):
        failed.result()
    assert fine.result() == 7
    pool.close()


def test_what_waits_is_cancelled_and_threads_end() -> None:
    pool, go, begun = RequestPool(1, "test-ends"), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait(10)

    running, waiting = pool.submit(work), pool.submit(int, "7")
    begun.wait(10)
    pool.close()
    assert waiting.cancelled()
    go.set()
    assert running.result()
    for thread in threading.enumerate():
        if thread.name.startswith("test-ends"):
            thread.join(10)
            assert not thread.is_alive()


def test_the_program_ends_though_a_request_is_under_way() -> None:
    code = (
        "import threading; from persona_interp.models.request_pool import RequestPool\n"
        "RequestPool(1, 'silent').submit(threading.Event().wait, 600)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
