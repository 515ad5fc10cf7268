"""``persona-interp screen``: which samples of a training set would push a model along a persona vector."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.monitoring.screening import Screening


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "screen",
        help="rank training samples by what they would do to a model's persona",
        description="Rank training samples by projection difference: that of the sample's answer minus that of the model's own "
        "answers to the same prompt.",
        epilog="A line of the data set holds {'messages': [...]} ending with the assistant's, or {'prompt': ..., "
        "'response': ..., 'system': optional}; 'id' names it, and 'planted': true or false, where it is known, gives the AUROC. "
        "Own answers and projections are kept as they come, in a folder beside the result; the same command goes on from there.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="a vector of this model")
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE.jsonl", help="training samples, one a line")
    parser.add_argument("--layer", type=arguments.layers, default="auto", metavar="auto|N", help="0-based (default: auto)")
    parser.add_argument(
        "--own-samples", type=arguments.count, default=3, metavar="N", help="own answers a prompt (default: %(default)s)"
    )
    parser.add_argument("--reverse", action="store_true", help="samples that pull against the vector first")
    parser.add_argument(
        "--output", type=Path, metavar="DIR|FILE", help=".json, or a folder (default: screening/<dataset>_<trait>.json)"
    )
    parser.add_argument("--top", type=arguments.count, default=10, metavar="N", help="samples shown (default: %(default)s)")
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, answer, project, show, write."""
    from persona_interp.cli.vector_choice import choose, read_one
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.monitoring.own_answers import ANSWERS
    from persona_interp.monitoring.screen import screen
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json

    samples = read_chats(args.dataset)
    given = read_one(args.vectors, args)
    path = ensure_writable(result_file(args.output, args.dataset, given[1].trait))
    folder = path.with_suffix(".run")
    sampling = arguments.sampling(args)
    if (folder / ANSWERS).exists():
        say(f"going on with the answers in {folder}")
    with arguments.load_model(args) as model:
        (chosen,) = choose([given], model, args)
        found = screen(
            model,
            chosen.vector,
            samples,
            layer=chosen.layers[0],
            own_samples=args.own_samples,
            sampling=sampling,
            seed=args.seed,
            reverse=args.reverse,
            folder=folder,
            batch_size=args.batch_size,
        )
    write_json(path, found.to_json())
    show(found, args.top)
    say(f"written: {path} (own answers and projections: {folder})")


def result_file(output: Path | None, dataset: Path, trait: str) -> Path:
    """Where the ranking goes.

    Raises:
        InvalidInputError: a file of another kind was named.
    """
    if output is not None and not output.is_dir() and output.suffix:
        if output.suffix.lower() != ".json":
            raise InvalidInputError(f"cannot write a ranking as {output.suffix} ({output}): name a .json file or a folder")
        return output
    name = f"{arguments.file_part(dataset.stem)}_{arguments.file_part(trait)}.json"
    return (output or Path("screening")) / name


def show(found: Screening, top: int) -> None:
    """Print the first samples and, where it is known which are planted, how well they are told apart."""
    from persona_interp.cli.tables import console, cut, shown, table

    screen = console()
    rows = [
        [
            str(rank),
            sample.name + (" *" if sample.planted else ""),
            shown(sample.difference),
            shown(sample.projection),
            shown(sample.own_projection),
            cut(sample.prompt, 40),
            cut(sample.answer, 60),
        ]
        for rank, sample in enumerate(found.samples[:top], start=1)
    ]
    headings = [
        ("rank", "right"), ("sample", "left"), ("difference", "right"), ("answer", "right"), ("own", "right"), ("asked", "left"),
        ("answered", "left"),
    ]  # fmt: skip
    pull = "against" if found.reverse else "along"
    screen.print(table(f"samples that pull furthest {pull} {found.trait}, layer {found.layer}", headings, rows))
    lines = [
        f"Projections in activation units (|vector| = {found.norm:.2f}). difference: answer minus own (the model's own answers)."
    ]
    if found.n_without_difference:
        lines.append(f"{found.n_without_difference} samples have no token to compare and stand last.")
    areas = [found.auroc("difference"), found.auroc("projection")]
    if areas[0] is not None:
        lines.append(f"* planted. AUROC of the difference: {areas[0]}; of the answer's projection alone: {areas[1]} (95 %)")
    screen.print("\n".join(lines), markup=False, highlight=False)
