"""``persona-interp doctor``: what this installation can do, and whether a model works on every engine that opens it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from persona_interp.errors import PersonaInterpError

if TYPE_CHECKING:
    from persona_interp.models.engines.check import ModelCheck

BROKEN = 1
"""Exit code where something is broken; what is merely not installed is no such thing."""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="say what this installation can do; with --model, check a model on every engine",
        description="Versions, engines, processors, places and extras. With --model: template, end tokens and layout, and ten "
        "prompts with and without a push on every engine that can open it. Exit code 1 if something is broken.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", metavar="M", help="short name, hub id, folder or .gguf file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Look, print, and end with code 1 where something is broken."""
    from persona_interp.models.installation import installation

    found = installation()
    checked, problems = None, list(found.problems)
    if args.model is not None:
        checked = check(args.model, problems)
    if args.json:
        import json

        shown = {**found.to_json(), "model": None if checked is None else checked.to_json(), "problems": problems}
        print(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        for title, lines in (
            ("versions", found.versions),
            ("engines", found.engines),
            ("machine", found.machine),
            ("places", found.places),
            ("extras", found.extras),
        ):
            section(title, lines)
        if checked is not None:
            show(checked)
        section("", {"broken": "nothing"} if not problems else {f"broken {n}": text for n, text in enumerate(problems, start=1)})
    if problems:
        sys.stdout.flush()
        raise SystemExit(BROKEN)


def check(name: str, problems: list[str]) -> ModelCheck | None:
    """The check of a model; what is wrong with it is added to `problems`.

    Raises:
        PersonaInterpError: nothing of that name is known.
    """
    from persona_interp.cli.arguments import quiet_bars
    from persona_interp.models.engines.check import check_model
    from persona_interp.models.registry import find_model

    find_model(name)
    quiet_bars()
    try:
        found = check_model(name)
    except PersonaInterpError as error:
        problems.append(str(error))
        return None
    problems += found.problems
    return found


def section(title: str, lines: Mapping[str, str]) -> None:
    """Print a heading and its lines."""
    from persona_interp.cli.tables import console

    screen = console()
    if title:
        screen.print(title, style="bold", markup=False, highlight=False)
    for name, value in lines.items():
        screen.print(f"  {name:<18}{value}", markup=False, highlight=False, soft_wrap=True)


def show(found: ModelCheck) -> None:
    """Print what a model is, and a row for each engine."""
    from persona_interp.cli.tables import console, shown, table
    from persona_interp.models.engines.check import PROMPTS, RATIO

    section(found.model, found.facts)
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found.seconds.items())
    section("", {"processor seconds": spent})
    rows = [
        [one.engine, one.unavailable, "–", "–", "–"]
        if one.unavailable
        else [one.engine, shown(one.top1), shown(one.logit_difference, 4), shown(one.steered_difference, 4), shown(one.moved)]
        for one in found.engines
    ]
    columns = [
        ("engine", "left"),
        ("same next token", "right"),
        ("logits apart", "right"),
        ("pushed, apart", "right"),
        ("push moves", "right"),
    ]
    console().print(table("", columns, rows))
    console().print(
        f"Next tokens after {len(PROMPTS)} prompts, against the first engine; largest differences of logits. The push: a random "
        f"direction at the middle layer, {RATIO:g} of the residual stream.",
        markup=False,
        highlight=False,
    )
