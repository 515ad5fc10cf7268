"""``persona-interp finetuning-shift``: how far finetuning moved a model along persona vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.vector_choice import add_transfer_options

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.monitoring.chats import Chat
    from persona_interp.monitoring.shift import FinetuningShift
    from persona_interp.vectors.steering import Steering


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "finetuning-shift",
        help="see how far finetuning moved a model along persona vectors",
        description="Read the same prompts with a model before and after finetuning, and project what changed "
        "onto persona vectors.",
        epilog="One model is in memory at a time. A shift is worth something beside the distance moved in all and what random "
        "directions would show: the table has both.",
        allow_abbrev=False,
    )
    parser.add_argument("--finetuned", required=True, metavar="M", help="the checkpoint after finetuning")
    parser.add_argument("--vectors", type=Path, nargs="+", required=True, metavar="FILE", help="vectors of the base model")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.jsonl", help="conversations, one a line (default: the trait's evaluation questions)"
    )
    parser.add_argument("--trait", metavar="T", help="whose evaluation questions are asked (default: that of the first vector)")
    parser.add_argument(
        "--positions",
        choices=("prompt_last", "response_avg"),
        default="prompt_last",
        help="last prompt token, or mean over the answers in --prompts (default: %(default)s)",
    )
    parser.add_argument("--layer", type=arguments.layers, default="auto", metavar="auto|N[,N]", help="0-based (default: auto)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the result")
    add_transfer_options(parser)
    arguments.add_model_options(parser, option="--base")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read with the base model, let it go, read with the finetuned one, show, write."""
    from persona_interp.cli.vector_choice import choose, read
    from persona_interp.models.registry import find_model
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.monitoring.finetuning_shift import layers_of, read_prompts, shift_between
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json

    given = None if args.prompts is None else read_chats(args.prompts)
    if args.output is not None:
        ensure_writable(args.output)
    given_vectors = read(args.vectors, args)
    for name in (args.model, args.finetuned):
        find_model(name)
    with arguments.load_model(args, beside=args.finetuned) as model:
        chosen = choose(given_vectors, model, args)
        vectors = [item.selected for item in chosen]
        texts = given or questions(args, model, chosen)
        layers = layers_of(vectors, model)
        base = read_prompts(model, texts, positions=args.positions, layers=layers, batch_size=args.batch_size)
    del model  # the second may need its room
    second = argparse.Namespace(**{**vars(args), "revision": None})
    with arguments.load_model(second, args.finetuned, beside=args.model) as model:
        for vector in vectors:
            vector.check_fits(model.identity)
        finetuned = read_prompts(model, texts, positions=args.positions, layers=layers, batch_size=args.batch_size)
    found = shift_between(base, finetuned, vectors)
    if args.output is not None:
        write_json(args.output, found.to_json())
        say(f"written: {args.output}")
    show(found)


def questions(args: argparse.Namespace, model: SteerableModel, chosen: list[Steering]) -> list[Chat]:
    """The evaluation questions of the trait, or those for extraction where it has no others."""
    from persona_interp.monitoring.chats import Chat
    from persona_interp.traits.model_kinds import resolve_trait

    trait = resolve_trait(model, args.trait or chosen[0].vector.trait)
    return [Chat.of(question) for question in trait.evaluation_questions or trait.extraction_questions]


def show(found: FinetuningShift) -> None:
    """Print a line for each vector and layer."""
    from persona_interp.cli.tables import console, shown, table

    rows = [
        [
            each.trait,
            str(at.layer),
            f"{at.shift:+.2f} [{at.low:+.2f}, {at.high:+.2f}]",
            f"{at.shift / at.norm:+.2f}",
            shown(at.distance),
            f"{at.cosine:+.2f}",
            f"{at.by_chance:.2g}",
        ]
        for each in found.traits
        for at in each.layers
    ]
    headings = [
        ("trait", "left"), ("layer", "right"), ("shift [95 %]", "right"), ("in vectors", "right"), ("moved in all", "right"),
        ("cosine", "right"), ("by chance", "right"),
    ]  # fmt: skip
    where = "last prompt token" if found.positions == "prompt_last" else "mean over the answers"
    screen = console()
    screen.print(table(f"{found.base.name} to {found.finetuned.name}, {found.n_prompts} prompts, {where}", headings, rows))
    screen.print(
        "shift: mean projection, finetuned minus base, in activation units; in vectors: over |vector|; by chance: how often a "
        "random\ndirection has as large a cosine with what moved.",
        markup=False,
        highlight=False,
    )
