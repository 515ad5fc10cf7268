"""Parsing, running a command, and turning errors into one line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from persona_interp.cli import (
    align,
    apply_steering,
    attribute,
    audit,
    demo,
    diagnose,
    doctor,
    download_gptoss,
    evaluate,
    evaluate_transfer,
    export,
    extract_vectors,
    finetune,
    finetuning_shift,
    import_vectors,
    info,
    layer_effectiveness,
    models,
    modulate,
    monitor,
    monitor_prediction,
    quickstart,
    screen,
    serve,
    traits,
)
from persona_interp.cli.parser import BAD_INPUT, Parser
from persona_interp.cli.running import add_running_options, exit_code, how_to_go_on, printing, running
from persona_interp.cli.studies import study
from persona_interp.errors import PersonaInterpError
from persona_interp.locks import noting_folders

GROUPS = (
    ("most used", (quickstart, extract_vectors, apply_steering)),
    ("models and traits", (models, traits, doctor, download_gptoss)),
    ("vectors", (layer_effectiveness, attribute, info, export, import_vectors, align)),
    ("what steering does", (evaluate, evaluate_transfer, diagnose, modulate, demo, serve)),
    ("watching and training", (monitor, monitor_prediction, screen, finetune, finetuning_shift, audit)),
)
"""The commands a user meets, as ``persona-interp`` alone lists them."""

COMMANDS = tuple(command for _, commands in GROUPS for command in commands)

_AFTER = """
persona-interp COMMAND --help says what a command takes, with an example that runs.
Studies of this project's own instruments: persona-interp study --help
Completion in your shell: pip install "persona-interp[completion]", then
eval "$(register-python-argcomplete persona-interp)"
"""

_ENGINES = (
    ("torch", "PyTorch"),
    ("transformers", "models"),
    ("nnsight", "reading and writing the residual stream"),
    ("llama-cpp-python", "GGUF files"),
    ("transformer-lens", "attribution"),
)


class Front(Parser):
    """The parser of ``persona-interp`` itself, whose help is the commands by group."""

    def format_help(self) -> str:
        """A line for each command."""
        (action,) = (each for each in self._actions if isinstance(each, argparse._SubParsersAction))
        said = {str(each.dest): str(each.help) for each in action._choices_actions}
        names = iter(said)
        lines = [f"{self.description}\n\nusage: {self.prog} COMMAND ...   ({self.prog} --version)"]
        for title, commands in GROUPS:
            lines.append(f"\n{title}:")
            lines += [f"  {name:<22}{said[name]}" for name in (next(names) for _ in commands)]
        return "\n".join(lines) + "\n" + _AFTER


class _Version(argparse.Action):
    """``--version``: this package's, and those of the engines that are installed."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(f"persona-interp {version('persona-interp')}")
        for name, what in _ENGINES:
            try:
                print(f"  {name} {version(name)} ({what})")
            except PackageNotFoundError:
                print(f"  {name} is not installed ({what})")
        raise SystemExit(0)


def build_parser() -> Parser:
    """The parser of ``persona-interp`` with every command registered. Loads no model library."""
    parser = Front(
        prog="persona-interp",
        description="Extract persona vectors from language models, steer with them, and measure what they do.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of this package and of the engines")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.register(commands)
    study.register(commands)
    study.register_old_names(commands)
    add_running_options(parser)
    parser.set_defaults(parse=parser.parse_args)  # for the command that runs others
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it worked, 2 for input that cannot be used, 130 after Ctrl-C, 143 after SIGTERM.
    """
    _never_die_of_a_character()
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        _complete(parser)
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help()
        return 0
    noted: list[Path] = []
    try:
        with noting_folders(noted), running(args, argv), printing(args):
            args.run(args)
            sys.stdout.flush()
    except PersonaInterpError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"interrupted. {how_to_go_on(interrupt, noted)}".rstrip(), file=sys.stderr)
        return exit_code(interrupt)
    except BrokenPipeError:
        # the reader of our output (head, less) has gone: nothing to say, and nothing more to write at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _complete(parser: Parser) -> None:
    try:
        import argcomplete  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def _never_die_of_a_character() -> None:
    """Let standard output show a question mark for what its encoding cannot hold (cp1252 in a Windows redirect), not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
