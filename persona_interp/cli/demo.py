"""``persona-interp demo``: a web page on this machine to steer, chat, transfer and make vectors in."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from persona_interp.cli import arguments

LOOPBACK = "127.0.0.1"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="a web page to steer, chat, transfer and make vectors in",
        description="Serve a web page on this machine: steering beside the baseline, chats with a drift plot, transfer between "
        "models, vectors up and down, and traits of your own. It needs no network and asks none. Ctrl-C ends it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port", type=arguments.whole, default=8000, metavar="N", help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="H",
        help="to bind; anything but this machine's own addresses lets others in, and there is no password (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="M",
        help="models to offer: short names, hub ids, folders or .gguf files; loaded when first used (default: what was "
        "fetched or is in the hub's cache, then the organisms)",
    )
    arguments.add_engine_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from persona_interp.demo.server import serve
    from persona_interp.listening import is_loopback
    from persona_interp.progress import say

    if not is_loopback(args.host):
        say(f"note: {args.host} can be reached from other machines, and the page asks nobody for a password")

    def ready(address: str) -> None:
        print(f"The page is at {address} (Ctrl-C ends it)", flush=True)

    load = arguments.loaded if args.engine is None else partial(arguments.loaded, engine=args.engine)
    serve(args.model, args.host, args.port, ready=ready, load=load, engine=args.engine)
    say("ended: models are closed, and what visitors uploaded is removed")
