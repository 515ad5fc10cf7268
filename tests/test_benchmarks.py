"""The benchmarks are run by command and not by pytest; that the command works is a test all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


def benchmarks(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([sys.executable, BENCHMARKS, *arguments], capture_output=True, text=True, check=False, env=wide)


@pytest.mark.slow
def test_a_benchmark_runs_prints_a_table_and_writes_its_numbers(tmp_path: Path) -> None:
    ran = benchmarks("capture", "--organism-only", "--rounds", "1", "--output", tmp_path / "numbers.json")
    assert ran.returncode == 0, ran.stderr
    assert "organism-qwen2 │ capture" in ran.stdout
    numbers = json.loads((tmp_path / "numbers.json").read_text())["results"]["organism-qwen2"]
    assert numbers["capture of all layers"]["bar"] == 1.1
    assert all(ratio["cpu"] > 0.2 for ratio in numbers.values())


@pytest.mark.slow
def test_a_model_in_llama_cpp_is_timed_steered_and_read(tmp_path: Path) -> None:
    ran = benchmarks("gguf", "--organism-only", "--rounds", "1", "--output", tmp_path / "numbers.json")
    assert ran.returncode == 0, ran.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())["results"]["organism-qwen2"]
    assert set(numbers) == {
        "GGUF: control vector, one layer, against none",
        "GGUF: control vector, all layers, against none",
        "GGUF: generation that reads all layers, against none",
        "GGUF: capture of all layers from texts, against plain decode",
    }
    assert all(0.2 < ratio["cpu"] < 5 for ratio in numbers.values())
    assert {ratio["bar"] for ratio in numbers.values()} == {None}, "the bar is held at 100 M"


def test_importing_and_help_cost_a_fraction_of_a_second(tmp_path: Path) -> None:
    """Three times what they may cost where the benchmark is held to its bars: this machine may be busy, and its clock slow."""
    ran = benchmarks("start", "--rounds", "3", "--output", tmp_path / "numbers.json")
    assert ran.returncode == 0, ran.stderr
    for name, found in json.loads((tmp_path / "numbers.json").read_text())["results"]["start"].items():
        assert 0 < found["CPU seconds"] < 3 * found["bar"], name


@pytest.mark.slow
def test_work_beside_busy_programs_takes_a_few_times_as_long_and_no_more(tmp_path: Path) -> None:
    ran = benchmarks("busy", "--output", tmp_path / "numbers.json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "numbers.json").read_text())["results"]["busy"]
    assert found["beside"] < 2 * found["bar"] * found["alone"]


def test_an_unknown_part_is_refused() -> None:
    ran = benchmarks("captures")
    assert ran.returncode == 2
    assert "unknown part 'captures'" in ran.stderr
