"""``persona-interp study results``: write the tables of the documentation from the data beside the figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "results",
        help="write the tables of docs/results (and of the README) from the data in figures/",
        description="Write the marked regions of pages from the data that the studies measured. Nothing is measured here.",
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, default=Path("figures"), metavar="DIR", help="the data (default: %(default)s)")
    parser.add_argument(
        "--pages", type=Path, nargs="+", metavar="FILE.md", help="pages with regions (default: README.md and docs/results/*.md)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write, and say which pages changed."""
    from persona_interp.progress import say
    from persona_interp.studies.results import REGIONS, write_pages

    pages = args.pages or [Path("README.md"), *sorted(Path("docs/results").glob("*.md"))]
    changed = write_pages(pages, args.data, REGIONS)
    say(f"written: {', '.join(map(str, changed))}" if changed else f"{len(pages)} pages are as the data have them")
