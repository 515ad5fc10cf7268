"""What the studies of bundled organisms have in common on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persona_interp.cli import arguments

TRAITS = ("silly", "honest")
PLANTED = "organisms (default: the four with planted directions)"


def add_bench(
    commands: Any,
    run: Callable[[argparse.Namespace], None],
    *,
    words: tuple[str, str, str],
    output: str,
    kept: str,
    names: str = PLANTED,
    samples: int = 2,
) -> None:
    """Add a study of organisms and traits, which writes what it finds behind every case and goes on from there.

    Args:
        commands: where to add it.
        run: does it.
        words: its name, what it does in a line, and its description.
        output: default of ``--output``: a .json file, or a folder.
        kept: what goes where, for the help of ``--output``.
        names: help of the names, which says what none means.
        samples: default answers to each question.
    """
    name, help, description = words
    parser = commands.add_parser(name, help=help, description=description, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    arguments.add_bench_options(parser, TRAITS, samples=samples)
    metavar = "FILE" if Path(output).suffix else "DIR"
    parser.add_argument("--output", type=Path, default=Path(output), metavar=metavar, help=f"{kept} (default: %(default)s)")
    parser.set_defaults(run=run)
