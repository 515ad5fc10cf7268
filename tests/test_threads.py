"""Computing beside other programs: how many threads, and how they wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.threads import cpu_quota, set_threads, usable_cores

LOOK = """
import json, os, sys
from persona_interp.threads import set_threads
set_threads(*map(int, sys.argv[1:]))
import torch
kept = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
print(json.dumps([torch.get_num_threads(), {name: os.environ[name] for name in kept if name in os.environ}]))
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def seen(*words: str, **environment: str) -> tuple[int, dict[str, str]]:
    """Threads of torch, and what the environment says, in a process with `environment` and none of our own settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "KMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    threads, found = json.loads(done.stdout)
    return threads, found


def test_threads_wait_passively_and_are_as_many_as_the_cores_there_are() -> None:
    threads, found = seen()
    assert found == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(usable_cores())}
    assert threads == usable_cores()


def test_what_the_users_environment_says_stays() -> None:
    theirs = {"GOMP_SPINCOUNT": "5", "OMP_NUM_THREADS": "1"}
    assert seen(**theirs) == (1, theirs)
    assert seen(OMP_WAIT_POLICY="ACTIVE", MKL_NUM_THREADS="1")[1] == {"OMP_WAIT_POLICY": "ACTIVE", "MKL_NUM_THREADS": "1"}


def test_a_number_that_is_asked_for_goes_before_the_environment() -> None:
    threads, found = seen("1", OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    assert threads == 1
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="un-skip where a process can be bound to cores")
def test_threads_follow_the_cores_a_process_is_bound_to() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + LOOK
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0] == 1


def test_fewer_threads_than_one_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="threads is 0: give at least 1"):
        set_threads(0)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 2.0),
        ({"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/box\n",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
          "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"proc/self/cgroup": "1:cpu:/host/path\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        ({"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)  # fmt: skip
def test_quotas_of_control_groups_of_both_versions_are_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    assert cpu_quota(tmp_path) == quota


def test_a_container_with_less_time_than_it_shows_cores_gets_fewer_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for cpu in range(8):
        write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    assert usable_cores(tmp_path) == 4  # two hardware threads a core
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    for limit, cores in (("250000 100000", 2), ("20000 100000", 1), ("900000 100000", 4)):
        write(tmp_path / "sys/fs/cgroup/cpu.max", f"{limit}\n")
        assert usable_cores(tmp_path) == cores
