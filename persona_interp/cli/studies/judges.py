"""``persona-interp study judges``: are judges right where the truth is known?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.studies.judges.judge_validation import JudgeValidation

TRAITS = ("silly", "honest")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "judges",
        help="compare judges with the exact scores of the bundled organisms, or try them on a real model",
        description="Score answers of model organisms, prompted and steered, with the contrast judge and the perplexity "
        "coherence, and compare with the exact scores, beside controls. With --real, have a model answer for a trait and against "
        "it, and see which judges notice: the contrast judge, the model by the rubric where it can, and every measure.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", dest="models", nargs="+", default=[], metavar="M", help="model organisms (default: every one that ships)"
    )
    parser.add_argument(
        "--real", nargs="+", default=[], metavar="M", help="models that are no organisms, to try judges on instead of those"
    )
    parser.add_argument("--num-prompts", type=arguments.count, metavar="N", help="with --real: questions asked (default: all)")
    arguments.add_bench_options(parser, TRAITS)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("judges.json"),
        metavar="FILE",
        help="a .json file; tables go beside it as .md, answers and scores into a .run folder, from which a second run goes on "
        "(default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check names, measure, show and write."""
    from persona_interp.models.registry import find_model, shipped_models
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.judges.judge_validation import judges_markdown
    from persona_interp.studies.judges.validate_judges import validate_judges
    from persona_interp.studies.judges.validations_file import validations_json

    if args.real:
        _run_real(args)
        return
    traits = [check_trait(trait) for trait in dict.fromkeys(args.traits)]
    names = list(dict.fromkeys(args.models)) or sorted(shipped_models())
    for name in names:
        find_model(name)
    arguments.json_result(args.output)
    found: list[JudgeValidation] = []
    for name in names:
        with arguments.loaded(name) as model:
            for trait in traits:
                folder = args.output.with_suffix(".run")
                found.append(validate_judges(model, trait, samples=args.samples, seed=args.seed, folder=folder))
                write_json(args.output, validations_json(found))
                show(found[-1])
    report = write_text(args.output.with_suffix(".md"), judges_markdown(found))
    note()
    print(f"written: {args.output}")
    print(f"written: {report}")


def _run_real(args: argparse.Namespace) -> None:
    from persona_interp.cli.tables import console, table
    from persona_interp.models.registry import find_model
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.judges.real_validation import (
        REAL_HEADINGS,
        RealValidation,
        real_markdown,
        real_rows,
    )
    from persona_interp.studies.judges.validate_on_real import validate_on_real
    from persona_interp.studies.judges.validations_file import validations_json
    from persona_interp.traits.catalogue import load_trait, trait_names

    if args.models:
        raise InvalidInputError("--model names organisms and --real other models: give one of the two")
    wanted = [load_trait(name) for name in dict.fromkeys(trait_names() if args.traits == list(TRAITS) else args.traits)]
    traits = [trait for trait in wanted if trait.measures or args.traits != list(TRAITS)]
    for name in args.real:
        find_model(name)
    arguments.json_result(args.output)
    folder = args.output.with_suffix(".run")
    found: list[RealValidation] = []
    for name in dict.fromkeys(args.real):
        with arguments.loaded(name) as model:
            for trait in traits:
                found.append(validate_on_real(model, trait, num_prompts=args.num_prompts, seed=args.seed, folder=folder))
                write_json(args.output, validations_json(found))
                headings = [(heading, "right" if place else "left") for place, heading in enumerate(REAL_HEADINGS)]
                rows = [[cell.strip("*") for cell in row] for row in real_rows(found[-1])]
                console().print(table(f"{model.name}, {trait.name}: asked for it against asked against it", headings, rows))
    report = write_text(args.output.with_suffix(".md"), real_markdown(found))
    print(f"written: {args.output}")
    print(f"written: {report}")


def show(found: JudgeValidation) -> None:
    """The tables of one model and trait, and what the guard caught."""
    from persona_interp.cli.tables import console, table
    from persona_interp.studies.judges.judge_validation import HEADINGS, TARGETS, judge_rows

    screen = console()
    for target in TARGETS:
        headings = [("judge", "left"), *((heading, "right") for heading in HEADINGS)]
        rows = [[cell.replace(" [", "\n[").strip("*") for cell in row] for row in judge_rows(found, target)]
        screen.print(table(f"{found.model.name}, {found.trait}: {target} of {len(found.conditions)} answers", headings, rows))
    guard = found.guard
    screen.print(
        f"garbage guard: {guard.garbage_caught} of {guard.garbage} garbage texts and {guard.good_caught} of {guard.good} good "
        "answers caught\n",
        highlight=False,
    )


def note() -> None:
    """What the columns are."""
    from persona_interp.cli.tables import console
    from persona_interp.studies.judges.agreement import SPLIT
    from persona_interp.studies.judges.judge_validation import NOT_MEASURED

    reasons = "; ".join(f"{judge}: {reason}" for judge, reason in NOT_MEASURED.items())
    console().print(
        f"AUROC: exact trait of at least {SPLIT['trait']:g}, exact coherence of at least {SPLIT['coherence']:g}. within: "
        "Pearson with the mean of each condition taken away. calibration: mean |score - exact| after pooling by score, in "
        "points. Controls: the number of words (length), and the judge's scores dealt out at random (shuffled). Intervals (95 %) "
        f"are over questions. Not measured here: {reasons}.",
        highlight=False,
        markup=False,
    )
