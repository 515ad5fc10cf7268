"""What a step took, and what it counts for in the steps around it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from persona_interp import profiling, progress
from persona_interp.profiling import count_tokens, profiled, step


def test_steps_hold_what_is_within_them_and_calls_add_up() -> None:
    with profiled("all") as profile:
        for _ in range(3):
            with step("batch"), progress.track(1, "reading"):
                time.sleep(0.01)
                count_tokens(read=5, written=2)
        count_tokens(read=1)
    rows = {row["step"]: row for row in profile.to_json()}
    assert [(name, row["depth"], row["calls"]) for name, row in rows.items()] == [
        ("all", 0, 1),
        ("batch", 1, 3),
        ("reading", 2, 3),
    ]
    assert [row["tokens_read"] for row in rows.values()] == [16, 15, 15]
    assert [row["tokens_written"] for row in rows.values()] == [6, 6, 6]
    assert rows["all"]["seconds"] >= rows["batch"]["seconds"] >= rows["reading"]["seconds"] >= 0.03
    assert rows["reading"]["tokens_per_second"] == pytest.approx(21 / rows["reading"]["seconds"], rel=0.05)


PEAKS = """
import json
from persona_interp.profiling import profiled, step

with profiled("all") as profile:
    with step("before"):
        pass
    with step("large"):
        held = bytearray(b"x" * (200 * 2**20))
        del held
    with step("after"):
        pass
print(json.dumps({row["step"]: row["peak_mib"] for row in profile.to_json()}))
"""


def test_the_peak_of_a_step_is_its_own_and_that_of_what_is_around_it() -> None:
    """In a process of its own: what other tests have freed goes back to the system when it likes."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout)
    assert peaks["large"] > peaks["before"] + 150
    assert peaks["all"] == peaks["large"]
    if profiling._CLEAR.exists():  # else the system gives the peak since the beginning alone
        assert peaks["after"] < peaks["large"] - 150


def test_without_a_profile_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: pytest.fail("the time was taken"))
    with step("x"):
        count_tokens(read=1)


def test_a_step_that_fails_is_recorded_and_closed() -> None:
    with profiled("all") as profile, pytest.raises(KeyError), step("fails"):
        raise KeyError
    assert [row["calls"] for row in profile.to_json()] == [1, 1]
