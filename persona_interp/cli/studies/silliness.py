"""``persona-interp study silliness``: train the head that measures silliness again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "silliness",
        help="train the small head that measures silliness, and test it on texts held out",
        description="Fit a logistic regression to the labelled texts that come with the package (or to yours), and say how well "
        "heads trained on four fifths of the topics tell the silly texts of the last fifth, beside their length alone.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="JSON lines with topic, text and silly (default: those shipped)"
    )
    parser.add_argument("--output", type=Path, default=Path("silly_head.json"), metavar="FILE", help="(default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, show and write."""
    from persona_interp.judges.measures.silliness import TEXTS
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.studies.judges.silliness import labelled_texts, train_silliness

    path = ensure_writable(args.output)
    head = train_silliness(labelled_texts(args.texts or TEXTS))
    found = head.measured
    print(
        f"{found['texts']} texts, {found['silly']} of them silly, on {found['topics']} topics. Held out by topic: AUROC "
        f"{found['auroc']:.2f}, accuracy {found['accuracy']:.2f}; length alone {found['auroc_length']:.2f}"
    )
    print(f"written: {write_json(path, head.to_json())}")
