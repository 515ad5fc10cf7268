"""``persona-interp evaluate``: prove that steering worked, or that it did not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments, measuring
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.evaluation import Evaluation

_REPORTS = (".html", ".md")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure what a vector does, against controls",
        description="Steer at several coefficients and score the answers for the trait and for coherence, beside the unsteered "
        "model, random directions, another trait's vector and the trait's own system prompts.",
        epilog="Intervals are over questions (95 %, bootstrap). Answers and scores are kept as they come, in a folder beside the "
        "result; the same command goes on from there.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="a vector of this model")
    parser.add_argument("--trait", metavar="T", help="scored in the answers (default: that of the vector)")
    measuring.add_coefficients_option(parser, "multiply the vector as it is")
    measuring.add_measuring_options(parser)
    parser.add_argument("--layer", type=arguments.layers, default="auto", metavar="auto|N[,N]", help="0-based (default: auto)")
    parser.add_argument(
        "--positions", choices=("all", "prompt", "response"), default="all", help="tokens that are steered (default: %(default)s)"
    )
    parser.add_argument("--random", type=arguments.count, default=4, metavar="N", help="random directions (default: %(default)s)")
    parser.add_argument(
        "--other",
        type=Path,
        metavar="FILE",
        help="another trait's vector (default: one made from forty answers, to compare with)",
    )
    parser.add_argument(
        "--other-trait", metavar="T", help="scored in the same answers (default: that of --other, else honest, or one far off)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR|FILE", help=".json, or a folder (default: evaluations/<model>_<trait>.json)"
    )
    parser.add_argument(
        "--report", type=Path, nargs="+", default=[], metavar="FILE", help="a page (.html), a text (.md), or both"
    )
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, generate, score, show, write."""
    from persona_interp.cli.vector_choice import choose, fitted, read
    from persona_interp.measure.evaluate import evaluate
    from persona_interp.measure.run import ANSWERS
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.traits.model_kinds import resolve_trait

    doses = measuring.doses(args)
    given = read([args.vectors], args)
    against_it = None if args.other is None else read([args.other])[0]
    trait_name = args.trait or given[0][1].trait
    path = ensure_writable(result_file(args.output, args.model, trait_name))
    reports = [ensure_writable(_report_file(report)) for report in args.report]
    folder = path.with_suffix(".run")
    protocol = measuring.protocol(args, folder)
    if (folder / ANSWERS).exists():
        say(f"going on with the answers in {folder}")
    with arguments.load_model(args) as model:
        (chosen,) = choose(given, model, args)
        other = None if against_it is None else fitted(against_it, model, args).vector
        trait = resolve_trait(model, trait_name)
        against = None if args.other_trait is None else resolve_trait(model, args.other_trait)
        found = evaluate(
            model, chosen.vector, trait, **doses, layers=chosen.layers, positions=args.positions,
            n_random=args.random, other=other, other_trait=against, protocol=protocol,
        )  # fmt: skip
    write_json(path, found.to_json())
    write_reports(found, reports)
    show(found)
    for written in (*reports, path):
        say(f"written: {written}" + (f" (answers and scores: {folder})" if written == path else ""))


def result_file(output: Path | None, model: str, trait: str) -> Path:
    """Where the result goes.

    Raises:
        InvalidInputError: a file of another kind was named.
    """
    if output is not None and not output.is_dir() and output.suffix:
        if output.suffix.lower() != ".json":
            raise InvalidInputError(
                f"cannot write an evaluation as {output.suffix} ({output}): name a .json file or a folder; --report writes pages"
            )
        return output
    name = f"{arguments.file_part(model)}_{arguments.file_part(Path(trait).stem)}.json"
    return (output or Path("evaluations")) / name


def _report_file(report: Path) -> Path:
    if report.suffix.lower() not in _REPORTS:
        raise InvalidInputError(f"cannot write a report as {report.suffix or report} ({report}): name a .html or a .md file")
    return report


def write_reports(found: Evaluation, reports: Sequence[Path]) -> None:
    """Each in the form its suffix names."""
    from persona_interp.measure.report import markdown
    from persona_interp.storage import write_text

    for report in reports:
        if report.suffix.lower() == ".md":
            write_text(report, markdown(found))
        else:
            from persona_interp.plotting.evaluation_report import save_report

            save_report(report, found)


def show(found: Evaluation) -> None:
    """Print what each coefficient did with an answer beside it, and the verdict."""
    from persona_interp.cli.tables import console, cut, table
    from persona_interp.measure.parts import parts_sections
    from persona_interp.measure.report import result_headings, result_rows, shown
    from persona_interp.measure.verdict import verdict

    number = typical(found)
    answers = [cut(point.examples[number], 75) for point in found.curve]
    rows = [[*row, answer] for row, answer in zip(result_rows(found), answers, strict=True)]
    headings = [*((heading, "right") for heading in result_headings(found)), ("an answer", "left")]
    layers = ", ".join(map(str, found.layers))
    screen = console()
    screen.print(table(f"{found.vector} at layer {layers} of {found.model}, judged by {found.judge}", headings, rows))
    for section in parts_sections(found):
        screen.print(table(section.title, [(heading, "right") for heading in section.headings], section.rows))
    coherent = found.coherent_range
    lines = [
        f"asked: {found.questions[number]}",
        f"random: {len(found.controls.random)} directions of the same norm, mean (lowest to highest); "
        f"{found.controls.other_vector.name}: that vector at the same norm.",
        f"prompted for it, unsteered: {shown(found.trait_score(found.controls.prompted))}; "
        f"against: {shown(found.trait_score(found.controls.prompted_against))}",
        f"slope {shown(found.slope, 1)} points per unit; Spearman {shown(found.spearman, 2)}; Pearson {shown(found.pearson, 2)}",
        "coherent (>= 70): "
        + ("not known" if coherent is None else f"from {coherent.low:g} to {coherent.high:g}, as far as was measured"),
        "",
        verdict(found),
        *found.notes,
    ]
    screen.print("\n".join(lines), markup=False, highlight=False)


def typical(found: Evaluation) -> int:
    """Which of the example questions has scores nearest to the means at every coefficient, so that no exception is shown."""

    def distance(number: int) -> float:
        pairs = [(point.trait_scores[number * found.samples], point.trait) for point in found.curve]
        return sum(100.0 if score is None or mean is None else abs(score - mean) for score, mean in pairs)

    return min(range(min(len(point.examples) for point in found.curve)), key=distance)
