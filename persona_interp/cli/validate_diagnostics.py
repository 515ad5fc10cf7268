"""``persona-interp validate-diagnostics``: are known causes named?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from persona_interp.cli import arguments


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "validate-diagnostics",
        help="diagnose twins of organisms with known faults and count how often the verdict is exact",
        description="Plant every combination of the three faults in twins of three organisms, diagnose the transfer into each, "
        "and compare verdicts with what was planted.",
        allow_abbrev=False,
    )
    parser.add_argument("--cases", type=arguments.count, default=64, metavar="N", help="twins, at least 8 (default: 64)")
    parser.add_argument("--num-prompts", type=arguments.count, metavar="N", help="evaluation questions (default: all)")
    parser.add_argument("--samples", type=arguments.count, default=1, metavar="K", help="answers to each question (default: 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("diagnostics.json"), metavar="FILE",
        help="JSON; a .run folder beside it keeps what is measured, and the same command goes on (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, write, and print the confusion table."""
    from persona_interp.cli.tables import console, table
    from persona_interp.diagnostics.bench import bench, bench_json
    from persona_interp.storage import ensure_writable, write_json

    ensure_writable(args.output)
    cases = bench(args.cases, folder=args.output.with_suffix(".run"), num_prompts=args.num_prompts, samples=args.samples)
    found = bench_json(cases)
    write_json(args.output, found)
    rows = [[planted, said, str(count)] for planted, row in found["confusion"].items() for said, count in row.items()]
    console().print(table(f"{len(cases)} twins", [("planted", "left"), ("verdict", "left"), ("twins", "right")], rows))
    print(f"exact: {found['exact_share']:.1%}; lowest recovery with the planted causes fixed: {found['lowest_restored']:.3f}")
    print("the bar is met" if not found["unmet"] else "the bar is NOT met: " + "; ".join(found["unmet"]))
    print(f"wrote {args.output}")
