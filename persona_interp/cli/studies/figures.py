"""``persona-interp study figures``: measure and draw all figures of the documentation again."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.studies.gallery.entry import GalleryFigure, Step

Parse: TypeAlias = Callable[[Sequence[str]], argparse.Namespace]

FORMAT_VERSION = 1
FINISHED = "finished.json"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "figures",
        help="measure and draw the figures of the documentation again",
        description="Run the commands that make the data of each figure, then draw it as PNG and as a page.",
        epilog="What is measured is kept in a folder beside the output (figures.run), and the same command goes on from there. "
        "Remove that folder to measure from the beginning.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="DIR", help="data, images and pages (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some of the figures (default: all)")
    parser.add_argument("--draw-only", action="store_true", help="draw from the data that are in the output already")
    parser.add_argument("--no-png", action="store_true", help="pages alone; PNG needs Chromium")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Say what it will take, measure what is not measured yet, draw."""
    from persona_interp.plotting.png import find_browser
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable
    from persona_interp.studies.gallery.pages import write_gallery
    from persona_interp.studies.gallery.registry import FIGURES, figure_named

    chosen = [figure_named(name) for name in dict.fromkeys(args.only)] or list(FIGURES)
    if args.output.exists() and not args.output.is_dir():
        raise InvalidInputError(f"cannot write figures into {args.output}: it is a file; name a folder")
    ensure_writable(args.output / "index.html")
    if not args.no_png:
        find_browser()  # not after hours
    if not args.draw_only:
        measure(chosen, args.output, args.parse)
    index = write_gallery(args.output, chosen, FIGURES, png=not args.no_png)
    say(f"written: {index}, and {len(chosen)} figures beside it")


def measure(chosen: Sequence[GalleryFigure], output: Path, parse: Parse) -> None:
    """Run the commands that are not finished yet, in a folder beside `output`, and bring over the data of each figure.

    `parse` makes a command of its words.

    Raises:
        KeyboardInterrupt: says how to go on.
        PersonaInterpError: a command failed; what was made is kept.
    """
    from persona_interp.progress import say
    from persona_interp.storage import write_bytes, write_json

    work = output.parent / f"{output.name}.run"
    done = finished(work)
    steps = list(dict.fromkeys(step for figure in chosen for step in figure.steps))
    waiting = [step for step in steps if step.command not in done]
    show(chosen, done)
    if not waiting:
        say(f"everything is measured already, in {work}: remove it to measure again")
    try:
        for figure in chosen:
            for step in figure.steps:
                if step.command not in done:
                    run_step(step, work, parse)
                    done.append(step.command)
                    write_json(work / FINISHED, {"format_version": FORMAT_VERSION, "finished": done})
            for path in figure.files(work):
                write_bytes(output / path.relative_to(work), path.read_bytes())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"To go on, give the same command again; what was made is in {work}") from None


def finished(work: Path) -> list[str]:
    """The commands that ran to their end in `work`."""
    from persona_interp.errors import FileFormatError
    from persona_interp.storage import check_format_version, read_json

    path = work / FINISHED
    if not path.exists():
        return []
    data = read_json(path, "list of finished commands")
    check_format_version(data, FORMAT_VERSION, str(path))
    if not isinstance(data.get("finished"), list):
        raise FileFormatError(f"{path}: field 'finished' is missing or no list; remove {work} to measure from the beginning")
    return [str(command) for command in data["finished"]]


def run_step(step: Step, work: Path, parse: Parse) -> None:
    """Run one command with its files in `work`."""
    from persona_interp.progress import say

    work.mkdir(parents=True, exist_ok=True)
    say(f"\n$ {step.command}")
    with contextlib.chdir(work):
        args = parse(shlex.split(step.command)[1:])
        args.run(args)


def show(chosen: Sequence[GalleryFigure], done: Sequence[str]) -> None:
    """What will be measured, and how long it takes."""
    from persona_interp.cli.tables import console, table

    seen = set(done)
    rows: list[list[str]] = []
    total = 0.0
    for figure in chosen:
        for number, step in enumerate(figure.steps):
            new = step.command not in seen
            seen.add(step.command)
            total += step.minutes if new else 0.0
            cost = minutes(step.minutes) if new else "measured" if step.command in done else "see above"
            rows.append([figure.name if number == 0 else "", step.command, cost])
    screen = console()
    screen.print(table("What is measured", [("figure", "left"), ("command", "left"), ("minutes", "right")], rows))
    screen.print(
        f"About {minutes(total)} minutes of processor time on one core, by parts timed on a shared two-core machine.",
        highlight=False,
    )


def minutes(value: float) -> str:
    """Whole minutes, from half a minute on."""
    return "< 1" if 0 < value < 0.75 else f"{value:.0f}"
