"""``persona-interp study diagnostics``: are known causes named?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from persona_interp.cli import arguments


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "diagnostics",
        help="diagnose twins of organisms with known faults and count how often the verdict is exact",
        description="Plant every combination of the three faults in twins of three organisms, diagnose the transfer into each, "
        "and compare verdicts with what was planted. With --pairs, diagnose the transfers between the four planted organisms "
        "instead, whose causes nobody knows, and say how much each fix contributes.",
        allow_abbrev=False,
    )
    parser.add_argument("--cases", type=arguments.count, default=64, metavar="N", help="twins, at least 8 (default: 64)")
    parser.add_argument("--num-prompts", type=arguments.count, metavar="N", help="evaluation questions (default: all)")
    parser.add_argument("--samples", type=arguments.count, default=1, metavar="K", help="answers to each question (default: 1)")
    parser.add_argument(
        "--pairs", action="store_true", help="the twelve ordered pairs of organisms, both traits; also writes a table as .md"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="JSON; a .run folder beside it keeps what is measured, and the same command goes on (default: "
        "diagnostics.json, with --pairs diagnostics_pairs.json)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, write, and print."""
    from persona_interp.storage import ensure_writable

    output: Path = args.output or Path("diagnostics_pairs.json" if args.pairs else "diagnostics.json")
    ensure_writable(output)
    options = {"folder": output.with_suffix(".run"), "num_prompts": args.num_prompts, "samples": args.samples}
    (_pairs if args.pairs else _twins)(args.cases, output, options)
    print(f"wrote {output}")


def _twins(n_cases: int, output: Path, options: dict[str, Any]) -> None:
    from persona_interp.cli.tables import console, shown, table
    from persona_interp.storage import write_json
    from persona_interp.studies.diagnoses.twins_bench import bench, bench_json

    cases = bench(n_cases, **options)
    found = bench_json(cases)
    write_json(output, found)
    rows = [[planted, said, str(count)] for planted, row in found["confusion"].items() for said, count in row.items()]
    console().print(table(f"{len(cases)} twins", [("planted", "left"), ("verdict", "left"), ("twins", "right")], rows))
    print(f"exact: {found['exact_share']:.1%}")
    for what, name in (("the planted causes", "lowest_restored"), ("all that was changed", "lowest_mended")):
        print(f"lowest recovery with {what} fixed: {shown(found[name], 3)}")
    print("the bar is met" if not found["unmet"] else "the bar is NOT met: " + "; ".join(found["unmet"]))


def _pairs(_: int, output: Path, options: dict[str, Any]) -> None:
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.diagnoses.pairs_bench import pairs_bench, pairs_json
    from persona_interp.studies.diagnoses.pairs_text import pairs_markdown, pairs_summary

    cases = pairs_bench(**options)
    write_json(output, pairs_json(cases))
    said = write_text(output.with_suffix(".md"), f"{pairs_markdown(cases)}\n{pairs_summary(cases)}\n")
    print(pairs_markdown(cases))
    print(pairs_summary(cases))
    print(f"wrote {said}")
