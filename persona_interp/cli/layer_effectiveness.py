"""``persona-interp layer-effectiveness``: which layers of a model steer a trait."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import add_judge_option
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.coherence_cliff import CoherenceCliff
    from persona_interp.measure.effectiveness import LayerEffectiveness
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.traits.trait import Trait
    from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
_METHODS = ("screened-likelihood", "likelihood", "sweep", "gradient", "lens", "geometry")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "layer-effectiveness",
        help="find the layers at which a trait is steered best",
        description="Score the layers of a persona vector: by what steering there does to the likelihood of given answers "
        "(by default at those that a gradient singles out, which is cheap), by behaviour (sweep: answers are generated and "
        "judged at every layer), or by geometry.",
        epilog="The scores are recorded in the vector's file, and --layer auto of the other commands goes by them.",
        allow_abbrev=False,
    )
    parser.add_argument("--trait", required=True, metavar="T", help="name of a trait, or a trait file")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="default: vectors/MODEL_TRAIT.json, extracted if not there")
    parser.add_argument(
        "--method", nargs="+", choices=_METHODS, default=_METHODS[:1], help=f"one or more (default: {_METHODS[0]})"
    )
    parser.add_argument("--ratios", type=arguments.number, nargs="+", metavar="R", help="perturbation ratios to try, above 0")
    parser.add_argument(
        "--pairs", type=arguments.count, default=16, metavar="N", help="answers of each kind (default: %(default)s)"
    )
    add_judge_option(
        parser, "of the sweep, the cliff and an extraction, where none keeps every rollout (default: auto)", default=None
    )
    parser.add_argument("--cliff", action="store_true", help="also find where answers fall apart at the best layer, both ways")
    parser.add_argument(
        "--samples",
        type=arguments.count,
        default=2,
        metavar="N",
        help="rollouts, if a vector is extracted (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write scores and where they came from")
    parser.add_argument(
        "--scan", type=Path, metavar="FILE.json", help="write every layer and coefficient of the sweep, with answers"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.html", help="write interactive figures")
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Find or make the vector, score its layers, record, show, write."""
    from persona_interp.cli.vector_choice import fitted
    from persona_interp.measure.contrast_pairs import contrast_pairs
    from persona_interp.measure.layer_effectiveness import from_scan, layer_effectiveness, pairs_sampling, sweep_layers
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.traits.model_kinds import resolve_trait

    if args.scan is not None and "sweep" not in args.method:
        raise InvalidInputError("--scan writes what a sweep measured, and none was asked for: add --method sweep")
    for path in (args.output, args.scan, args.figure):
        if path is not None:
            ensure_writable(path)
    if args.ratios and min(args.ratios) <= 0:
        raise InvalidInputError(
            f"--ratios {min(args.ratios):g}: perturbation ratios are above 0; both directions are tried anyway"
        )
    sampling = arguments.sampling(args)
    file = args.vectors or arguments.vector_file(None, args.model, args.trait)
    with arguments.load_model(args) as model:
        trait = resolve_trait(model, args.trait)
        given = vector_of(args, file, model, trait)
        fit = fitted((file, given), model, args)
        vector = fit.vector
        if fit.report is not None:  # the file of the other model's vector stays as it is
            file = file.with_name(f"{file.stem}_for_{arguments.file_part(args.model)}{file.suffix}")
        common = {"sampling": sampling, "seed": args.seed, "batch_size": args.batch_size}
        pairs = None
        if reading := set(args.method) - {"sweep", "geometry"}:
            drawn = pairs_sampling(reading.pop(), sampling) if len(reading) == 1 else sampling
            pairs = contrast_pairs(model, trait, n_pairs=args.pairs, **{**common, "seed": args.seed + 1, "sampling": drawn})
        found: list[LayerEffectiveness] = []
        scan = None
        for method in args.method:
            say(f"scoring {len(vector.layers)} layers by {method}")
            if method == "sweep":
                scan = sweep_layers(model, vector, trait, ratios=args.ratios, judge=args.judge, **common)
                found.append(from_scan(scan, vector.layers))
                if args.scan is not None:
                    write_json(args.scan, scan.to_json())
                    say(f"written: {args.scan}")
            else:
                found.append(layer_effectiveness(model, vector, trait, method=method, pairs=pairs, ratios=args.ratios, **common))
        chosen = found[0]
        chosen.recorded_in(given if fit.report is None else vector).save(file)
        cliffs = find_cliffs(args, model, vector, trait, chosen.best().layer, common) if args.cliff else []
    say(f"{chosen.reason()}\nrecorded in {file}, for --layer auto")
    if args.output is not None:
        write_json(args.output, record(found, cliffs))
        say(f"written: {args.output}")
    if args.figure is not None:
        draw(args.figure, found, scan)
        say(f"written: {args.figure}")
    show(found, cliffs)


def vector_of(args: argparse.Namespace, file: Path, model: SteerableModel, trait: Trait) -> PersonaVector:
    """The vector in `file`; where no file was named and there is none, a new one, whose rollouts a second run goes on with."""
    from persona_interp.progress import say
    from persona_interp.vectors.extract import extract
    from persona_interp.vectors.persona_vector import PersonaVector

    if args.vectors is not None or file.exists():
        say(f"vector: {file}")
        return PersonaVector.load(file)
    say(f"there is no {file}: extracting {trait.name!r} from {model.name}")
    vector = extract(
        model,
        trait,
        judge=args.judge or "auto",
        samples=args.samples,
        sampling=arguments.sampling(args),
        seed=args.seed,
        folder=file.with_suffix(".run"),
        batch_size=args.batch_size,
    )
    vector.save(file)
    return vector


def find_cliffs(
    args: argparse.Namespace, model: SteerableModel, vector: PersonaVector, trait: Trait, layer: int, common: dict[str, Any]
) -> list[CoherenceCliff]:
    """Where coherence breaks at `layer`, downwards and upwards."""
    from persona_interp.measure.coherence_cliff import coherence_cliff

    return [
        coherence_cliff(model, vector, trait, layer, direction=direction, judge=args.judge, **common) for direction in (-1, 1)
    ]


def show(found: Sequence[LayerEffectiveness], cliffs: Sequence[CoherenceCliff]) -> None:
    """One table a method, and the cliffs in words."""
    from persona_interp.cli.tables import console, shown, table
    from persona_interp.measure.effectiveness import METHODS

    screen = console()
    headings = ("layer", "score", "held out", "95 % interval", "coefficient", "x resid", "coherence lost", "usable")
    for result in found:
        best = result.best().layer
        rows = [
            [
                f"{score.layer}{' *' if score.layer == best else ''}",
                shown(score.score, 3),
                shown(score.held_out, 3),
                "–" if score.low is None else f"{shown(score.low, 3)} to {shown(score.high, 3)}",
                shown(score.coefficient),
                shown(score.perturbation_ratio),
                shown(score.coherence_cost, 0),
                "–" if score.usable is None else f"{score.usable[0]:.2f} to {score.usable[1]:.2f}",
            ]
            for score in result.scores
        ]
        screen.print(table(f"{result.trait} in {result.model}, by {result.method}", [(name, "right") for name in headings], rows))
        screen.print(f"{METHODS[result.method]}\n", markup=False, highlight=False)
    for cliff in cliffs:
        broke = "held up to the largest tried" if cliff.broken is None else f"broken at {cliff.broken:.2f}"
        screen.print(
            f"layer {cliff.layer}, direction {cliff.direction:+d}: coherent up to a perturbation ratio of {cliff.safe:.2f} "
            f"(coefficient {cliff.safe_coefficient:+.2f}), {broke}",
            markup=False,
            highlight=False,
        )


def record(found: Sequence[LayerEffectiveness], cliffs: Sequence[CoherenceCliff]) -> dict[str, Any]:
    """The JSON of a run."""
    from dataclasses import asdict

    return {
        "format_version": FORMAT_VERSION,
        "best": found[0].best().layer,
        "reason": found[0].reason(),
        "methods": [result.to_json() for result in found],
        "cliffs": [asdict(cliff) for cliff in cliffs],
    }


def draw(path: Path, found: Sequence[LayerEffectiveness], scan: Any) -> None:
    """The figures of a run as one page."""
    from persona_interp.plotting import effectiveness_figure, save_html, scan_figure

    figures = [effectiveness_figure(list(found))]
    if scan is not None:
        figures.append(scan_figure(scan))
    save_html(path, figures, title=f"Where {found[0].trait} is steered in {found[0].model}", note=found[0].reason())
