"""``persona-interp study finetuning``: what finetuning on data with a trait does, and what keeps the trait out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from persona_interp.cli import arguments

BENCHES = ("organism-qwen2:silly",)


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "finetuning",
        help="finetune on data with a trait, plainly and with everything that might keep it out",
        description="Finetune organisms and a real model on data of ours with a trait: plainly at several shares, with a vector, "
        "and with the alternatives; read trait, task and perplexity, shifts along the vector, and what screening said before.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "benches", nargs="*", metavar="MODEL:TRAIT",
        help=f"organisms take any trait of theirs, with - for its opposite; real models gloomy (default: {' '.join(BENCHES)})",
    )  # fmt: skip
    parser.add_argument(
        "--ratios", type=arguments.number, nargs="+", metavar="R", help="doses of prevention (default: 0.1 0.2 0.4)"
    )
    parser.add_argument("--random", type=arguments.count, default=2, metavar="N", help="random directions (default: %(default)s)")
    parser.add_argument("--layer", type=arguments.whole, default=12, metavar="N", help="of real models (default: %(default)s)")
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, metavar="N", help="same seed, same numbers (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("finetuning.json"), metavar="FILE",
        help="a .json file; tables go beside it as .md, every run into a .run folder, from which a second run goes on "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Finetune what is not finetuned yet, show and write."""
    from persona_interp.progress import say
    from persona_interp.provenance import provenance
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.finetuning.arms import arms
    from persona_interp.studies.finetuning.bench import bench_of
    from persona_interp.studies.finetuning.report import FinetuningStudy, study_markdown, study_summary
    from persona_interp.studies.finetuning.runs import finetuning_runs, screened_sets

    folder = arguments.json_result(args.output).with_suffix(".run")
    ratios = tuple(args.ratios or (0.1, 0.2, 0.4))
    runs, screened, study = [], [], None
    for name in args.benches or BENCHES:
        with bench_of(name, folder, layer=args.layer, seed=args.seed) as (bench, own):
            ways = arms(ratios, args.random, short=bench.short)
            say(f"{bench.name}: screening, then up to {len(ways) + len(bench.shares)} finetunings")
            screened += screened_sets(bench, own)
            runs += finetuning_runs(bench, ways, own)
        study = FinetuningStudy(tuple(runs), tuple(screened), provenance(seed=args.seed))
        write_json(args.output, study.to_json())
    if study is not None:
        written = write_text(args.output.with_suffix(".md"), study_markdown(study))
        print(study_markdown(study))
        print(f"wrote {written}")
        print(study_summary(study))
