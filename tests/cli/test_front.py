"""What a person meets who does not know the commands yet: the list, the nearest name, examples that run, tables as JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persona_interp.cli import build_parser
from persona_interp.cli.entry import GROUPS
from persona_interp.cli.examples import EXAMPLES, SLOW
from persona_interp.cli.parser import Parser, nearest


def leaves(parser: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command a help lists, with its parser."""
    within = [action for action in parser._actions if action.__class__.__name__ == "_SubParsersAction"]
    for action in within:
        for choice in action._choices_actions:
            yield from leaves(action.choices[choice.dest], f"{name} {choice.dest}".strip())
    if name:
        yield name, parser


COMMANDS = {name: parser for name, parser in leaves(build_parser()) if not name.startswith("study")}


def test_the_commands_alone_are_five_groups_the_most_used_first(run: Callable) -> None:
    lines = run().out.splitlines()
    assert len(GROUPS) == 5
    start = lines.index("most used:")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["quickstart", "extract-vectors", "apply-steering"]
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(listed) == sorted(name for name in COMMANDS if " " not in name), "each once, and no study among them"
    assert max(map(len, lines)) <= 130


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("extract-vector",), "Did you mean extract-vectors?"),
        (("aply-steering",), "Did you mean apply-steering?"),
        (("models", "lsit"), "Did you mean list?"),
        (("traits", "list", "--jason"), "Did you mean --json?"),
        (("info", "v.json", "--thread", "1"), "Did you mean --threads?"),
        (("extract-vectors", "--modl", "m"), "did you mean --model?"),
        (("extract-vectors", "--model", "m", "--trait", "t", "--estimator", "means"), "invalid choice: 'means'"),
    ],
)
def test_the_nearest_name_is_said(run: Callable, words: tuple[str, ...], said: str) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 2, "a line that says what is wrong, and one that says where help is"


def test_nothing_is_guessed_where_nothing_comes_near() -> None:
    assert nearest("--zzz", ["--model"]) is None
    assert nearest("--mod", ["--model", "--seed"]) == "--model"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_parses(name: str) -> None:
    shown = COMMANDS[name].format_help()
    examples = EXAMPLES[name]
    assert all(f"  {line}\n" in shown for line in examples)
    for line in examples:
        program, *words = shlex.split(re.split(r" [>|] ", line)[0])
        assert program == "persona-interp"
        assert line.startswith(f"persona-interp {name}")
        assert callable(build_parser().parse_args(words).run)


def test_no_example_is_of_a_command_that_is_not_there() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_defaults_and_units(name: str) -> None:
    parser: Parser = COMMANDS[name]
    for action in parser._actions:
        said = (action.help or "") % {"default": action.default, "choices": "", "told": "default" * (action.dest == "judge")}
        if action.option_strings and action.default not in (None, False, [], "==SUPPRESS==") and not action.required:
            assert "default" in said, f"{name} {action.option_strings[0]}: {said}"
        if "--layer" in action.option_strings:
            assert "0-based" in said
        if "--coefficient" in action.option_strings or "--coefficients" in action.option_strings:
            assert "multipl" in said or "strength" in said or "ratio" in said, said


@pytest.mark.slow
def test_examples_run_in_their_order_as_they_stand(tmp_path: Path) -> None:
    for name, lines in EXAMPLES.items():
        for line in lines if name not in SLOW else ():
            command = line.replace("persona-interp", f"{sys.executable} -m persona_interp", 1)
            done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "silly.gguf").exists()


def test_tables_are_printed_as_json_with_all_digits(run: Callable, vector_file: Path) -> None:
    rows = json.loads(run("info", vector_file, "--json").out)
    assert [row["layer"] for row in rows] == list(range(len(rows)))
    assert rows[0]["norm"] != round(rows[0]["norm"], 2)
    assert rows[0]["norm / mean resid"] is None
    names = {row["name"] for row in json.loads(run("models", "list", "--json").out)}
    assert {"organism-qwen2", "smollm2-135m-instruct"} <= names
    traits = json.loads(run("traits", "list", "--json").out)
    assert {"name", "from", "description"} == set(traits[0])


def completed(line: str, tmp_path: Path) -> list[str]:
    """What argcomplete offers for `line`, asked as a shell asks: by a run of the command with the line in its environment."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    offered = tmp_path / "offered"
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(offered)}
    program = "import sys; sys.argv[0] = 'persona-interp'; from persona_interp.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each.strip() for each in offered.read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("persona-interp extr", ["extract-vectors"]),
        ("persona-interp models f", ["fetch"]),
        ("persona-interp evaluate --num-p", ["--num-prompts"]),
        ("persona-interp apply-steering --positions r", ["response"]),
        ("persona-interp evaluate-transfer --method proc", ["procrustes"]),
    ],
)
def test_a_shell_that_asks_is_offered_commands_options_and_choices(line: str, offered: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("argcomplete") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)('runs once argcomplete is here: pip install -e ".[completion]"')
    assert completed(line, tmp_path) == offered


def test_without_argcomplete_a_shell_that_asks_gets_no_error(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert run().code == 0
