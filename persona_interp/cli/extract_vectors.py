"""``persona-interp extract-vectors``: a persona vector from a model and a trait."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import Names, add_judge_option
from persona_interp.errors import FileFormatError, InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.traits.judging import Judge
    from persona_interp.vectors.persona_vector import PersonaVector

POSITIONS = ("response_avg", "prompt_avg", "prompt_last")
NO_JUDGE = "none"  # as in `judges.registry`, which the parser does not load
ROLLOUTS = "rollouts.jsonl"
NO_SCORES = "none"
ROLLOUT_BYTES = 50_000
"""Roughly what a rollout of a small model takes on disk, residuals included; large models take more, so this is a floor."""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "extract-vectors",
        help="extract a persona vector from a model",
        description="Let a model answer under contrastive system prompts and take the difference of its residuals at each layer.",
        epilog="Rollouts, scores and residuals are kept as they come, in a folder beside the vector. The same command goes on "
        "from there, also for other --positions or another --estimator: nothing is generated twice.",
        allow_abbrev=False,
    )
    parser.add_argument("--trait", required=True, metavar="T", help="name (see: persona-interp traits list) or .json file")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR|FILE",
        help=".json, .safetensors or .pt, or a folder (default: vectors/<model>_<trait>.json)",
    )
    parser.add_argument(
        "--samples",
        type=arguments.count,
        default=10,
        metavar="N",
        help="answers per instruction and question, for each sign (default: %(default)s)",
    )
    parser.add_argument(
        "--positions", choices=POSITIONS, default=POSITIONS[0], help="residuals that are averaged (default: %(default)s)"
    )
    parser.add_argument(
        "--estimator", choices=Names("vectors.estimators:ESTIMATORS"), default="mean_difference", metavar="E",
        help="how a direction is made of them: %(choices)s (default: %(default)s)",
    )  # fmt: skip
    add_judge_option(parser, "who filters answers, or none (default: auto; with --rollouts the scores in the file)", default=None)
    parser.add_argument(
        "--rollouts", type=Path, metavar="FILE", help="JSONL of prompts and responses to use instead of generating"
    )
    parser.add_argument(
        "--layer-scores",
        choices=("screened-likelihood", "likelihood", NO_SCORES),
        default="screened-likelihood",
        help="record how well layers steer, for --layer auto: those a gradient singles out, or every one at many times the cost; "
        "generates 32 more answers (default: %(default)s)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="a page: layer scores, where the answers lie along the vector, norms and massive dimensions",
    )
    parser.add_argument(
        "--projections", type=Path, metavar="FILE.json", help="where each answer lies along the vector, at every layer"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run; an error if there is none")
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, extract, write, show."""
    from persona_interp.cli.tables import console, layer_table
    from persona_interp.measure.scored_vector import scored
    from persona_interp.progress import say
    from persona_interp.traits.model_kinds import resolve_trait
    from persona_interp.vectors.extract import extract

    sampling = arguments.sampling(args)
    path = arguments.vector_file(args.output, args.model, args.trait)
    folder = path.with_suffix(".run")
    check_before_loading(args, path, folder)
    with arguments.load_model(args) as model:
        trait = resolve_trait(model, args.trait)
        try:
            vector = extract(
                model,
                trait,
                judge=judge_for(args, model),
                samples=args.samples,
                positions=args.positions,
                estimator=args.estimator,
                sampling=sampling,
                seed=args.seed,
                folder=folder,
                rollouts=args.rollouts,
                batch_size=args.batch_size,
            )
        except KeyboardInterrupt:
            if not (folder / ROLLOUTS).exists():
                raise  # nothing was made yet, so there is nothing to resume
            raise KeyboardInterrupt(f"To go on, give the same command with --resume; what was made is in {folder}") from None
        vector.save(path)
        if args.layer_scores != NO_SCORES and args.rollouts is None:
            options = {"sampling": sampling, "seed": args.seed, "batch_size": args.batch_size}
            vector = scored(vector, model, trait, folder, **options, method=args.layer_scores)
            vector.save(path)
    if args.report is not None:
        write_report(args.report, vector, folder, model.first_steerable_layer)
    if args.projections is not None:
        write_projections(args.projections, vector, folder)
    console().print(layer_table(vector))
    say(f"written: {path} (rollouts and residuals: {folder})")


def write_report(page: Path, vector: PersonaVector, folder: Path, first_layer: int) -> None:
    """The figures of a vector, as one page."""
    from persona_interp.plotting import layer_figure, projection_figure, residual_figure, save_html
    from persona_interp.progress import say
    from persona_interp.vectors.layer_choice import choose_layer
    from persona_interp.vectors.pair_projections import pair_projections

    choice = choose_layer(vector, first_layer)
    projections = pair_projections(folder, vector)
    figures = [layer_figure(vector), projection_figure(projections, layer=choice.layer), residual_figure(vector)]
    held_out = "on directions made without their question" if projections.held_out else "on the vector they were made into"
    note = f"--layer auto: {choice.reason}.\n\nAnswers in the histograms are projected {held_out}."
    save_html(page, figures, title=f"{vector.trait} in {vector.model.name}", note=note)
    say(f"written: {page}")


def write_projections(path: Path, vector: PersonaVector, folder: Path) -> None:
    """The answers' projections, for figures of one's own."""
    from persona_interp.progress import say
    from persona_interp.storage import write_json
    from persona_interp.vectors.pair_projections import pair_projections

    write_json(path, pair_projections(folder, vector).to_json())
    say(f"written: {path}")


def check_before_loading(args: argparse.Namespace, path: Path, folder: Path) -> None:
    """Find the mistakes that would otherwise show after the model is loaded, or after hours."""
    from persona_interp.judges.registry import judge_parts
    from persona_interp.models.registry import find_model
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable

    find_model(args.model)
    check_trait(args.trait)
    if args.judge is not None and args.judge != NO_JUDGE:
        judge_parts(args.judge)
    if args.rollouts is not None and not args.rollouts.exists():
        raise FileFormatError(f"rollout file {args.rollouts} does not exist")
    if (folder / ROLLOUTS).exists():
        say(f"going on with the rollouts in {folder}")
    elif args.resume:
        raise InvalidInputError(
            f"nothing to resume: there are no rollouts in {folder}. Leave --resume out, or give the --output of that run"
        )
    ensure_writable(path, space=args.samples * ROLLOUT_BYTES)
    if args.report is not None:
        if args.report.suffix.lower() != ".html":
            raise InvalidInputError(f"cannot write figures as {args.report}: name an .html file")
        ensure_writable(args.report)
    if args.projections is not None:
        if args.projections.suffix.lower() != ".json":
            raise InvalidInputError(f"cannot write projections as {args.projections}: name a .json file")
        ensure_writable(args.projections)


def check_trait(name_or_path: str) -> None:
    """Raise for a trait that no model has; those of kinds of models, such as the organisms, are known beside the library's."""
    from persona_interp.traits.catalogue import load_trait
    from persona_interp.traits.model_kinds import MODEL_KINDS

    try:
        load_trait(name_or_path)
    except UnknownNameError:
        if not any(name_or_path in kind.trait_names for kind in MODEL_KINDS.values()):
            raise


def judge_for(args: argparse.Namespace, model: SteerableModel) -> str | Judge:
    """The judge asked for; without one, the default, or with rollouts the scores they bring."""
    return args.judge or (NO_JUDGE if args.rollouts is not None else "auto")
