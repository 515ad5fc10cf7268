"""``persona-interp diagnose``: why a carried vector fails, by its length, its basis or its layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments, measuring
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.diagnostics.diagnosis import Diagnosis

HYPOTHESES = ("a", "b", "c")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "diagnose",
        help="say why a vector of one model fails in another: magnitude, basis, layers, or none of them",
        description="Steer the target with the source's vector as it is, and with each subset of three fixes: its length brought "
        "to the same perturbation ratio (a), its direction carried by a map (b), its layer matched (c).",
        epilog="The verdict names the causes whose fix the others cannot do without, by 95 % intervals over questions; beside it "
        "stands what each fix contributes (Shapley values). What was made is kept in a folder beside the results.",
        allow_abbrev=False,
    )
    add_options(parser)
    parser.add_argument(
        "--hypothesis", choices=(*HYPOTHESES, "all"), default="all", help="a magnitude, b basis, c layers (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but ``--hypothesis``."""
    measuring.add_carrying_options(parser)
    parser.add_argument("--trait", dest="trait", required=True, metavar="X", help="name of a trait, or its file")
    usual = "multiply the source's vector (default: perturbation ratios -0.4 and 0.4)"
    measuring.add_coefficients_option(parser, usual, None, where="of the source at the vector's layer")
    measuring.add_measuring_options(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="folder for hypothesis_<x>_<source>_to_<target>_<trait>.json and diagnosis_....html (default: experiments)",
    )  # fmt: skip
    arguments.add_model_options(parser, option="--target")
    arguments.add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    """Diagnose, write one file a hypothesis and a page, and show."""
    from persona_interp.plotting.diagnosis import save_diagnosis_report
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json

    chosen = HYPOTHESES if args.hypothesis == "all" else (args.hypothesis,)
    files = {hypothesis: ensure_writable(result_file(args, hypothesis)) for hypothesis in chosen}
    found = diagnosis_of(args, scan="c" in chosen)
    for hypothesis, path in files.items():
        write_json(path, found.to_json(hypothesis))
    page = save_diagnosis_report(result_file(args, "").with_suffix(".html"), found)
    show(found)
    say(f"written: {', '.join(map(str, files.values()))}; figures: {page}")


def result_file(args: argparse.Namespace, hypothesis: str) -> Path:
    """Where the result of one hypothesis goes; without one, a name for all of them.

    Raises:
        InvalidInputError: a file was named, where several are written.
    """
    output: Path = args.output or Path("experiments")
    if output.suffix and not output.is_dir():
        raise InvalidInputError(f"cannot write results as {output}: several files are written, name a folder")
    pair = f"{arguments.file_part(args.source)}_to_{arguments.file_part(args.model)}"
    kind = f"hypothesis_{hypothesis}" if hypothesis else "diagnosis"
    return output / f"{kind}_{pair}_{arguments.file_part(Path(args.trait).stem)}.json"


def diagnosis_of(args: argparse.Namespace, *, scan: bool) -> Diagnosis:
    """Everything the source is needed for, then everything with the target."""
    from persona_interp.cli.align import anchors_of
    from persona_interp.cli.evaluate_transfer import trait_for, vector_of
    from persona_interp.measure.diagnostics.diagnose import diagnose
    from persona_interp.models.registry import find_model
    from persona_interp.transfers.reading import read_rows
    from persona_interp.vectors.persona_vector import PersonaVector

    doses = measuring.doses(args)
    for name in (args.source, args.model):
        find_model(name)
    given = [PersonaVector.load(file) for file in args.vectors]
    sampling = arguments.sampling(args)
    anchors = anchors_of(args, (args.source, args.model))
    folder = result_file(args, "").with_suffix(".run")
    with arguments.load_model(args, args.source, beside=args.model) as source:
        vector = vector_of(source, args.trait, given, folder, sampling, args)
        source_rows = read_rows(source, anchors, batch_size=args.batch_size)
    del source  # the two are never in memory together
    with arguments.load_model(args, beside=args.source) as target:
        target_rows = read_rows(target, anchors, batch_size=args.batch_size)
        native = vector_of(target, args.trait, given, folder, sampling, args)
        return diagnose(
            target, vector, native, trait_for(target, args.trait), **doses, source_rows=source_rows,
            target_rows=target_rows, scan=scan, protocol=measuring.protocol(args, folder),
        )  # fmt: skip


def show(found: Diagnosis) -> None:
    """Print the recovery of every subset of fixes, the attribution, and the verdict."""
    from persona_interp.cli.tables import console, table
    from persona_interp.measure.diagnostics.causes import named

    screen = console()
    rows = [[named(fixed), str(value)] for fixed, value in found.recoveries.items()]
    if found.recovery_by_states is not None:
        rows.append(["all, the basis by a map of states", str(found.recovery_by_states)])
    title = f"{found.trait}: {found.source} to {found.target}"
    screen.print(table(title, [("fixed", "left"), ("recovery", "right")], rows))
    lines = [found.conclusion(cause) for cause in found.measurements]
    if found.attribution is not None:
        lines.append("contributions: " + ", ".join(f"{cause} {value:.2f}" for cause, value in found.attribution.items()))
    lines += ["", f"verdict: {found.verdict.name} ({found.verdict.reason})"]
    screen.print("\n".join(lines), markup=False, highlight=False)
