"""``persona-interp download-gptoss``: the GGUF file of GPT-OSS 20B from the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

NAME = "gpt-oss-20b"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "download-gptoss",
        help="download the GGUF file of GPT-OSS 20B",
        description="Download the GGUF file of GPT-OSS 20B from the hub. What was interrupted goes on where it stopped; the file "
        "is kept only if its sha256 is the one the hub states.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", type=Path, default=Path("models"), metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="another repository than the registry's")
    parser.add_argument("--file", metavar="NAME.gguf", help="another file than the registry's")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Fetch, verify, say where it is."""
    from persona_interp.models.gguf_hub import GgufOnHub, download_gguf, find_gguf
    from persona_interp.progress import say

    known = find_gguf(NAME)
    wanted = GgufOnHub(args.repo or known.hub_id, args.file or known.filename)
    if wanted == GgufOnHub(known.hub_id, known.filename) and known.note:
        say(f"note: {known.note}")
    path = download_gguf(wanted, args.output, revision=args.revision)
    print(path)
    say(f"use it as --model {path}")
