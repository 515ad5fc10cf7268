"""``persona-interp serve``: a model behind an OpenAI-compatible API, with a persona for each request."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from persona_interp.cli import arguments
from persona_interp.errors import InvalidInputError, UnsupportedError

GUARDS = ("refuse", "clamp", "warn", "off")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="an OpenAI-compatible server with a persona for each request",
        description="Serve a model over OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models, and /v1/personas to "
        "upload vectors. The persona is in the model name (M@silly:0.8, M@silly:0.4r for a ratio, several joined by +) or in the "
        "field persona. PyTorch answers many requests side by side, llama.cpp one after the other. Ctrl-C ends it.",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("server")
    group.add_argument(
        "--personas",
        type=Path,
        default=Path("vectors"),
        metavar="FOLDER",
        help="vector files, served under their names; uploads go into it (default: %(default)s)",
    )
    group.add_argument("--host", default="127.0.0.1", metavar="H", help="to bind (default: %(default)s, this machine alone)")
    group.add_argument(
        "--port", type=arguments.whole, default=8100, metavar="N", help="0 takes a free one (default: %(default)s)"
    )
    group.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the key requests must name")
    group.add_argument("--served-name", metavar="NAME", help="what clients call the model (default: its name)")
    group.add_argument(
        "--max-tokens", type=arguments.count, default=1024, metavar="N", help="of an answer (default: %(default)s)"
    )
    group.add_argument(
        "--queue", type=arguments.count, default=512, metavar="N", help="answers that may wait (default: %(default)s)"
    )
    group.add_argument(
        "--dose-guard",
        choices=GUARDS,
        default="refuse",
        help="what happens to a coefficient beyond the measured coherence cliff, or --largest-ratio where none was measured "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--largest-ratio", type=arguments.number, default=0.9, metavar="R", help="of the residual norm (default: %(default)s)"
    )
    group.add_argument("--log-prompts", action="store_true", help="write what is asked into the log, too")
    arguments.add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from persona_interp.progress import say
    from persona_interp.serving.server import Settings, prepare, serve

    prepare()
    if args.remote:
        raise UnsupportedError("serve runs models on this machine, which --remote does not: leave it out")
    if not args.largest_ratio > 0:
        raise InvalidInputError(f"--largest-ratio is {args.largest_ratio:g}: give a number above 0")
    key = None
    if args.api_key_env is not None and not (key := os.environ.get(args.api_key_env)):
        raise InvalidInputError(f"--api-key-env names {args.api_key_env}, which is not set, or empty: put the key there")
    settings = Settings(
        args.personas,
        host=args.host,
        port=args.port,
        api_key=key,
        name=args.served_name,
        concurrent=args.batch_size or 32,
        most_waiting=args.queue,
        max_tokens=args.max_tokens,
        dose_guard=args.dose_guard,
        largest_ratio=args.largest_ratio,
        log_prompts=args.log_prompts,
    )

    def ready(address: str) -> None:
        print(f"Serving at {address} (Ctrl-C ends it)", flush=True)

    with arguments.load_model(args) as model:
        serve(model, settings, ready=ready)
    say("ended: every answer under way was finished")
