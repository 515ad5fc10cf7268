"""Parsing, running a command, and turning errors into one line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from persona_interp.cli import (
    align,
    apply_steering,
    attribute,
    demo,
    diagnose,
    doctor,
    download_gptoss,
    evaluate,
    evaluate_transfer,
    export,
    extract_vectors,
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
    traits,
)
from persona_interp.cli.running import add_running_options, exit_code, how_to_go_on, running
from persona_interp.cli.studies import study
from persona_interp.errors import PersonaInterpError
from persona_interp.locks import noting_folders

COMMANDS = (
    quickstart,
    doctor,
    models,
    demo,
    extract_vectors,
    align,
    apply_steering,
    modulate,
    download_gptoss,
    layer_effectiveness,
    attribute,
    evaluate,
    evaluate_transfer,
    diagnose,
    info,
    export,
    import_vectors,
    monitor,
    monitor_prediction,
    screen,
    finetuning_shift,
    traits,
    study,
)

BAD_INPUT = 2

_NEGATIVE_NUMBER = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class Parser(argparse.ArgumentParser):
    """An argument parser that takes every negative number as a value: ``--coefficients -2.0 -1e-1 0 1``."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        # argparse's own pattern knows no exponents and took "-1e-1" for an option until Python 3.14
        self._negative_number_matcher = _NEGATIVE_NUMBER


def build_parser() -> Parser:
    """The parser of ``persona-interp`` with every command registered. Loads no model library."""
    parser = Parser(
        prog="persona-interp",
        description="Extract persona vectors from language models, steer with them, and measure what they do.",
        epilog="Start with: persona-interp quickstart",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"persona-interp {version('persona-interp')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.register(commands)
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
    args = build_parser().parse_args(argv)
    noted: list[Path] = []
    try:
        with noting_folders(noted), running(args, argv):
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


def _never_die_of_a_character() -> None:
    """Let standard output show a question mark for what its encoding cannot hold (cp1252 in a Windows redirect), not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
