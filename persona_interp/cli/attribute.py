"""``persona-interp attribute``: which heads and MLPs write along a vector, and whether the trait needs them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import add_judge_option
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError, UnsupportedError

if TYPE_CHECKING:
    from persona_interp.attribution.attribution import Attribution
    from persona_interp.attribution.check import AblationCheck
    from persona_interp.attribution.component import Kind
    from persona_interp.attribution.vector_lens import LayerTokens, VectorLens
    from persona_interp.models.sampling import Sampling
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.traits.judging import Judge
    from persona_interp.traits.trait import Trait
    from persona_interp.vectors.persona_vector import PersonaVector
    from persona_interp.vectors.rollouts.kept_pairs import KeptPairs

FORMAT_VERSION = 1
_SHOWN = 10
"""Components in the table where no more are asked for."""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "attribute",
        help="find the heads and MLPs that write along a vector",
        description="Split the difference of positive and negative answers along a vector over every attention head and MLP, and "
        "read the vector as tokens. With --check, ablate the components that write most while the trait is asked for.",
        epilog="The answers are those the vector was made from, if the folder of its extraction lies beside it, else new ones. "
        "Answers and scores are kept as they come, in a folder beside the result; the same command goes on from there.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="a vector of this model")
    parser.add_argument("--trait", metavar="T", help="asked for and judged (default: that of the vector)")
    parser.add_argument("--layer", type=arguments.layers, default="auto", metavar="auto|N", help="0-based (default: auto)")
    parser.add_argument(
        "--rollouts", type=Path, metavar="DIR", help="folder of the vector's extraction (default: FILE.run, if it is there)"
    )
    parser.add_argument(
        "--top", type=arguments.count, metavar="K", help="components to show and to ablate (default: 10, and a quarter of them)"
    )
    parser.add_argument("--check", action="store_true", help="ablate the top components, and random ones to compare with")
    parser.add_argument(
        "--ablate", nargs="+", choices=("head", "mlp"), default=["head"], help="kinds the check ablates (default: head)"
    )
    parser.add_argument(
        "--random", type=arguments.count, default=8, metavar="N", help="random sets of the check (default: %(default)s)"
    )
    parser.add_argument(
        "--num-prompts", type=arguments.count, metavar="N", help="evaluation questions of the check (default: all the trait has)"
    )
    parser.add_argument(
        "--samples", type=arguments.count, default=1, metavar="K", help="answers made to each question (default: %(default)s)"
    )
    add_judge_option(parser)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: attributions/<model>_<trait>.json")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write interactive figures")
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, attribute, read, ablate, show, write."""
    from persona_interp.attribution.attribute import attribute
    from persona_interp.attribution.vector_lens import vector_lens
    from persona_interp.cli.vector_choice import choose, read_one
    from persona_interp.judges.registry import load_judge
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.traits.model_kinds import resolve_trait

    refuse_what_transformer_lens_cannot_run(args)
    given = read_one(args.vectors, args)
    trait_name = args.trait or given[1].trait
    path = ensure_writable(result_file(args.output, args.model, trait_name))
    if args.report is not None:
        ensure_writable(args.report)
    folder, sampling = path.with_suffix(".run"), arguments.sampling(args)
    with arguments.load_model(args) as model:
        (chosen,) = choose([given], model, args)
        trait = resolve_trait(model, trait_name)
        judge = load_judge(args.judge, model, trait=trait)
        pairs = pairs_for(args, model, chosen.vector, trait, judge, sampling, folder)
        found = attribute(model, chosen.vector, pairs=pairs, layer=chosen.layers[0], batch_size=args.batch_size)
        lens = vector_lens(model, chosen.vector, trait.extraction_questions, seed=args.seed, batch_size=args.batch_size)
        check = checked(args, model, found, pairs, trait, judge, sampling, folder) if args.check else None
    write_json(path, record(found, lens, check))
    show(found, lens.at(found.layer), args.top or _SHOWN, check)
    if args.report is not None:
        from persona_interp.plotting.attribution import save_attribution_report

        save_attribution_report(args.report, found, lens=lens, check=check)
        say(f"written: {args.report}")
    say(f"written: {path}")


def refuse_what_transformer_lens_cannot_run(args: argparse.Namespace) -> None:
    """Raise before anything is loaded.

    Raises:
        UnsupportedError: a GGUF file, or a model that runs remotely.
        MissingExtraError: TransformerLens is not installed, or does not fit the installed transformers.
    """
    from persona_interp.models.bridge import require_transformer_lens

    if arguments.runs_in_llama_cpp(args.model, args.engine):
        raise UnsupportedError(
            f"{args.model} is a GGUF file, whose heads llama.cpp does not show: give --engine torch, or attribute the PyTorch "
            "model it was made from"
        )
    if args.remote:
        raise UnsupportedError(
            f"--remote: heads and MLPs of {args.model} are read through TransformerLens, on this machine; leave it out"
        )
    require_transformer_lens()


def result_file(output: Path | None, model: str, trait: str) -> Path:
    """Where the result goes.

    Raises:
        InvalidInputError: a file of another kind was named.
    """
    if output is not None and output.suffix.lower() != ".json":
        raise InvalidInputError(f"cannot write an attribution as {output}: name a .json file; --report writes a page")
    name = f"{arguments.file_part(model)}_{arguments.file_part(Path(trait).stem)}.json"
    return output or Path("attributions") / name


def pairs_for(
    args: argparse.Namespace,
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait,
    judge: Judge,
    sampling: Sampling,
    folder: Path,
) -> KeptPairs:
    """The answers the vector was made from, if their folder is there, and else new ones, kept in `folder`."""
    from persona_interp.progress import say
    from persona_interp.vectors.rollouts.kept_pairs import kept_pairs, made_pairs

    beside = args.rollouts or args.vectors.with_suffix(".run")
    if args.rollouts is not None or (beside / "settings.json").exists():
        try:
            pairs = kept_pairs(beside, vector)
        except InvalidInputError as error:
            if args.rollouts is not None:
                raise
            say(f"note: {beside} is not used: {error}")
        else:
            say(f"answers: those the vector was made from, in {beside}")
            return pairs
    say(f"{model.name} answers for {trait.name!r} anew; answers of the extraction can be named with --rollouts")
    return made_pairs(
        model, trait, judge=judge, samples=args.samples, sampling=sampling, seed=args.seed, folder=folder / "rollouts",
        batch_size=args.batch_size,
    )  # fmt: skip


def checked(
    args: argparse.Namespace,
    model: SteerableModel,
    found: Attribution,
    pairs: KeptPairs,
    trait: Trait,
    judge: Judge,
    sampling: Sampling,
    folder: Path,
) -> AblationCheck:
    """The causal check."""
    from persona_interp.attribution.ablation_check import ablation_check

    return ablation_check(
        model, found, pairs, trait, k=args.top, kinds=args.ablate, n_random=args.random, num_prompts=args.num_prompts,
        samples=args.samples, judge=judge, sampling=sampling, seed=args.seed, folder=folder, batch_size=args.batch_size,
    )  # fmt: skip


def record(found: Attribution, lens: VectorLens, check: AblationCheck | None) -> dict[str, Any]:
    """The JSON of a run."""
    return {
        "format_version": FORMAT_VERSION,
        "attribution": found.to_json(),
        "lens": lens.to_json(),
        "check": None if check is None else check.to_json(),
    }


def show(found: Attribution, lens: LayerTokens, most: int, check: AblationCheck | None) -> None:
    """Print the components that write most, the tokens, and the check with its controls."""
    from persona_interp.attribution.component import ABLATABLE
    from persona_interp.cli.tables import console, shown, table

    listed = found.top(min(most, sum(component.kind in ABLATABLE for component in found.components)))
    rows = [
        [each.component.name, str(each.share), shown(each.difference.value), shown(each.positive), shown(each.negative)]
        for each in listed
    ]
    headings = ["component", "share [95 %]", "difference", "positive", "negative"]
    screen = console()
    screen.print(
        table(f"what writes {found.trait} into layer {found.layer} of {found.model}", [(h, "right") for h in headings], rows)
    )
    kinds = ", ".join(f"{name} {found.share_of(kind):.2f}" for name, kind in _KINDS)
    lines = [
        f"Shares of the difference along the vector, {found.n_pairs} pairs of answers to {found.n_questions} questions.",
        f"All {kinds}. The parts miss the stream by {found.gap:.0e} of its norm.",
        "" if check is not None else "What writes is not yet what is needed: --check ablates it.\n",
    ]
    screen.print("\n".join(lines), markup=False, highlight=False)
    tokens = [
        [repr(up.text), shown(up.logit), repr(down.text), shown(down.logit)]
        for up, down in zip(lens.promoted, lens.suppressed, strict=True)
    ]
    screen.print(table(f"the vector at layer {lens.layer} read as tokens", _TOKENS, tokens))
    up, down = lens.chance
    screen.print(f"A random direction of the same norm gets to {up:+.2f} and {down:+.2f}.\n", markup=False, highlight=False)
    if check is not None:
        show_check(check)


_KINDS: tuple[tuple[str, Kind], ...] = (("heads", "head"), ("MLPs", "mlp"), ("embedding", "embedding"), ("biases", "bias"))
_TOKENS = (("promoted", "left"), ("logit", "right"), ("suppressed", "left"), ("logit", "right"))


def show_check(check: AblationCheck) -> None:
    """Print the scores of every arm, and what follows."""
    from persona_interp.cli.tables import console, cut, shown, table

    named = [("nothing ablated", check.baseline), *((arm.name, arm.point) for arm in check.arms)]
    rows = [
        [name, str(check.score(point)), shown(point.coherence, 0), cut(point.examples[0], 60)]
        for name, point in [*named, ("asked against", check.against)]
    ]
    headings = [("ablated", "left"), (f"{check.trait} [95 %]", "right"), ("coherence", "right"), ("an answer", "left")]
    screen = console()
    screen.print(table(f"asked for {check.trait}, with components up to layer {check.layer} ablated", headings, rows))
    screen.print(f"{check.reason()}\n", markup=False, highlight=False)
