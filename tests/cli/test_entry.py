"""The frame around every command: help, version, exit codes, and errors without a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from persona_interp.cli import build_parser, entry
from persona_interp.errors import InvalidInputError


def parse(*words: str):
    return build_parser().parse_args(["apply-steering", "--model", "m", "--vectors", "v.json", "--prompt", "p", *words])


def test_negative_numbers_are_values_as_written() -> None:
    assert parse("--coefficients", "-2.0", "-1.0", "0.0", "1.0").coefficient == [-2.0, -1.0, 0.0, 1.0]
    assert parse("--coefficient", "-1.5").coefficient == [-1.5]
    assert parse("--coefficient", "-1e-1", "-.5", "-3").coefficient == [-0.1, -0.5, -3.0]
    assert parse("--coefficients", "-2.0", "--layer", "3").layer == (3,)


def test_layers_are_auto_or_numbers() -> None:
    assert parse().layer == "auto"
    assert parse("--layer", "auto").layer == "auto"
    assert parse("--layer", "4, 2,4").layer == (4, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--coefficient", "much"), "'much' is not a number"),
        (("--coefficient", "nan"), "'nan' is not a finite number"),
        (("--coefficient", "1e999"), "'1e999' is not a finite number"),
        (("--layer", "first"), "'first' is neither 'auto' nor 0-based layer numbers"),
        (("--layer", "-1"), "'-1' is neither"),
        (("--layer", "1,,2"), "neither"),
        (("--seed", "-1"), "not a whole number"),
        (("--max-new-tokens", "0"), "must be at least 1"),
        (("--positions", "middle"), "invalid choice: 'middle'"),
        (("--coeff", "1"), "unrecognized arguments"),
    ],
)
def test_options_that_cannot_be_read_end_with_code_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_version_and_help(run: Callable) -> None:
    first, *engines = run("--version").out.splitlines()
    assert first == f"persona-interp {version('persona-interp')}"
    assert any(line.split()[:2] == ["nnsight", version("nnsight")] for line in engines)
    assert "quickstart" in run("--help").out
    alone = run()
    assert (alone.code, alone.out) == (0, run("--help").out)


def test_an_error_is_one_line_and_code_2(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise InvalidInputError("the moon is not a model: give another")

    monkeypatch.setattr(entry.traits, "list_traits", fail)
    ran = run("traits", "list")
    assert (ran.code, ran.out, ran.err) == (2, "", "error: the moon is not a model: give another\n")


def test_ctrl_c_is_code_130(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.traits, "list_traits", interrupt)
    ran = run("traits", "list")
    assert (ran.code, ran.err) == (130, "interrupted.\n")


def test_a_fault_of_ours_keeps_its_traceback(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(entry.traits, "list_traits", fail)
    with pytest.raises(ZeroDivisionError):
        run("traits", "list")


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "persona_interp", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"persona-interp {version('persona-interp')}\n")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m persona_interp traits show silly --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{", "0"]
    assert "Traceback" not in done.stderr
