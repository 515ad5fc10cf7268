"""``persona-interp evaluate-transfer``: how much of a model's own vector's effect does one from another model have?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments, measuring
from persona_interp.cli.registered import Names
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.transfer_evaluation import TransferEvaluation
    from persona_interp.models.sampling import Sampling
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.transfers.anchor_rows import AnchorRows
    from persona_interp.vectors.persona_vector import PersonaVector

ALL = "all"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate-transfer",
        help="carry a vector from one model to another and measure what arrives, against controls",
        description="Carry the source's vector to the target by unlabelled texts that both read, steer the target with it and "
        "with the target's own vector at equal perturbation ratios, beside controls.",
        epilog="Recovery is the slope of the trait score under the carried vector over that under the target's own; intervals "
        "are over questions (95 %, bootstrap). The source is released before the target is loaded. What was made is kept in a "
        "folder beside the result; the same command goes on from there.",
        allow_abbrev=False,
    )
    measuring.add_carrying_options(parser)
    parser.add_argument("--trait", "--traits", dest="traits", nargs="+", required=True, metavar="X", help="one trait or several")
    what = "multiply the target's own vector; the carried one is as long at each"
    measuring.add_coefficients_option(parser, what, where="of the target where it is added")
    measuring.add_measuring_options(parser)
    parser.add_argument(
        "--method",
        choices=Names("alignment.methods:alignment_names", ALL),
        metavar="METHOD",
        help="how the models are aligned: %(choices)s; with all, controls are for the first of them (default: effects, or ridge "
        "where a model passes no gradients, as GGUF files do not)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR|FILE",
        help=".json, or a folder (default: transfers/<source>_to_<target>_<trait>.json)",
    )
    arguments.add_model_options(parser, option="--target")
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Everything the source is needed for, then everything with the target; show and write."""
    from persona_interp.cli.align import anchors_of
    from persona_interp.measure.evaluate_transfer import evaluate_transfer
    from persona_interp.models.registry import find_model
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.transfers.reading import read_rows
    from persona_interp.vectors.persona_vector import PersonaVector

    doses = measuring.doses(args)
    for name in (args.source, args.model):
        find_model(name)
    paths = {trait: ensure_writable(result_file(args, trait)) for trait in dict.fromkeys(args.traits)}
    given = [PersonaVector.load(file) for file in args.vectors]
    sampling = arguments.sampling(args)
    anchors = anchors_of(args, (args.source, args.model))
    folder = (args.output if args.output is not None and not args.output.suffix else next(iter(paths.values())).parent) / (
        f"{arguments.file_part(args.source)}_to_{arguments.file_part(args.model)}.run"
    )
    with arguments.load_model(args, args.source, beside=args.model) as source:
        vectors = {trait: vector_of(source, trait, given, folder, sampling, args) for trait in paths}
        others = {trait: other_of(source, trait, vectors, folder, sampling, args) for trait in paths}
        source_rows = read_rows(source, anchors, batch_size=args.batch_size)
    del source  # the two are never in memory together
    with arguments.load_model(args, beside=args.source) as target:
        target_rows = read_rows(target, anchors, batch_size=args.batch_size)
        methods = methods_for(args.method, source_rows, target_rows)
        for trait, path in paths.items():
            native = vector_of(target, trait, given, folder, sampling, args)
            found = evaluate_transfer(
                target, vectors[trait], native, trait_for(target, trait), **doses, source_rows=source_rows,
                target_rows=target_rows, methods=methods, other=others[trait], protocol=measuring.protocol(args, folder),
            )  # fmt: skip
            write_json(path, found.to_json())
            show(found)
            say(f"written: {path} (vectors, answers and scores: {folder})")


def methods_for(asked: str | None, *sides: AnchorRows) -> tuple[str, ...]:
    """The method asked for; effects where none is, or ridge, and a line that says so, where a model's effects are not known."""
    from persona_interp.alignment.methods import ALIGNMENTS, alignment_names
    from persona_interp.progress import say
    from persona_interp.transfers.carry import default_method, without_effects

    if asked is None:
        return (default_method(*sides),)
    if asked != ALL:
        return (asked,)
    if names := without_effects(*sides):
        say(f"note: effects are not known of {names}: aligned by states only")
        return tuple(ALIGNMENTS)
    return alignment_names()


def result_file(args: argparse.Namespace, trait: str) -> Path:
    """Where the result of one trait goes.

    Raises:
        InvalidInputError: a file of another kind was named, or one file for several traits.
    """
    output: Path | None = args.output
    if output is not None and output.suffix and not output.is_dir():
        if output.suffix.lower() != ".json" or len(set(args.traits)) > 1:
            raise InvalidInputError(
                f"cannot write {len(set(args.traits))} results as {output}: name a folder, or one .json for one trait"
            )
        return output
    pair = f"{arguments.file_part(args.source)}_to_{arguments.file_part(args.model)}"
    return (output or Path("transfers")) / f"{pair}_{arguments.file_part(Path(trait).stem)}.json"


def trait_for(model: SteerableModel, name: str) -> Any:
    """The trait as this model means it."""
    from persona_interp.traits.model_kinds import resolve_trait

    return resolve_trait(model, name)


def vector_of(
    model: SteerableModel, trait: str, given: list[PersonaVector], folder: Path, sampling: Sampling, args: argparse.Namespace
) -> PersonaVector:
    """The vector given for this model and trait, else one extracted."""
    from persona_interp.measure.scored_vector import scored_vector
    from persona_interp.progress import say
    from persona_interp.transfers.fitted_to import copy_for

    wanted = trait_for(model, trait)
    for vector in given:
        if vector.trait == wanted.name and (found := copy_for(vector, model)) is not None:
            if found.decision:
                say(f"note: the vector {vector.trait!r} {found.decision}")
            return found.vector
    return scored_vector(
        model, wanted, folder / "vectors", judge=args.judge, samples=args.extraction_samples,
        sampling=sampling, seed=args.seed, batch_size=args.batch_size,
    )  # fmt: skip


def other_of(
    source: SteerableModel,
    trait: str,
    vectors: dict[str, PersonaVector],
    folder: Path,
    sampling: Sampling,
    args: argparse.Namespace,
) -> PersonaVector:
    """The source's vector of another trait, for the control: one that is there, else one made from forty answers."""
    from persona_interp.measure.controls import other_trait_for, small_vector

    mine = trait_for(source, trait)
    against = other_trait_for(source, mine, vectors[trait], None)
    for other in vectors.values():
        if other.trait == against.name:
            return other
    return small_vector(source, against, sampling=sampling, seed=args.seed, folder=folder / "other", batch_size=args.batch_size)


def show(found: TransferEvaluation) -> None:
    """Print scores at each coefficient, recoveries, and the verdict."""
    from persona_interp.cli.tables import console, shown, table

    natives = {point.coefficient: point for point in found.native}
    rows: list[list[str]] = []
    for point in sorted((found.baseline, *found.main.points), key=lambda point: point.coefficient):
        own = natives.get(point.coefficient, found.baseline)
        scores = [shown(score, 0) for score in (own.trait, point.trait, point.coherence)]
        ratio = shown(point.perturbation_ratio) if point.coefficient else "–"
        rows.append([f"{point.coefficient:g}", ratio, *scores, point.examples[0]])
    headings = [(name, "right") for name in ("coefficient", "x resid", "own vector", "carried", "coherence")]
    screen = console()
    title = f"{found.trait}: {found.source} to {found.target}, by {found.method}"
    screen.print(table(title, [*headings, ("an answer under the carried vector", "left")], rows))
    lines = [str(found.main.report["reason"]), *(f"warning: {text}" for text in found.main.report["warnings"])]
    lines += [f"{each.method}: recovers {found.recovery_of(each.points)}" for each in found.carried[1:]]
    lines += [f"{name}: {value}" for name, value in found.control_recoveries.items()]
    lines += ["", found.verdict]
    screen.print("\n".join(lines), markup=False, highlight=False)
