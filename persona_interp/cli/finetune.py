"""``persona-interp finetune``: train an adapter on a data set, and keep a trait of its out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.training.recipe import Safeguards
    from persona_interp.vectors.steering import Steering


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "finetune",
        help="train a LoRA adapter on a data set, with a persona vector that keeps a trait of the data out",
        description="Train a LoRA adapter. With --prevent a persona vector is added while training and is gone afterwards, so "
        "that the weights need not take on what it stands for.",
        epilog="A line of the data set holds {'messages': [...]} or {'prompt': ..., 'response': ..., 'system': optional}; every "
        "answer is learned. Interrupted, the same command goes on from the last checkpoint in OUTPUT.run. See the data first: "
        "persona-interp screen. The adapter is a folder that every command takes as --model.",
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.jsonl", help="conversations, one a line")
    parser.add_argument("--output", type=Path, metavar="DIR", help="of the adapter, new (default: tuned/<model>_<data>)")
    guards = parser.add_argument_group("what keeps a trait out")
    guards.add_argument("--prevent", type=Path, metavar="VECTOR", help="add this vector while training (preventative steering)")
    guards.add_argument("--ablate", type=Path, metavar="VECTOR", help="take this direction out of the stream while training")
    guards.add_argument("--project", type=Path, metavar="VECTOR", help="let the adapter write nothing along it, at any layer")
    dose = guards.add_mutually_exclusive_group()
    dose.add_argument("--coefficient", type=arguments.number, metavar="C", help="of --prevent; multiplies the vector as it is")
    dose.add_argument(
        "--ratio", type=arguments.number, metavar="R", help="in place of it: a share of the residual (default: 0.3)"
    )
    guards.add_argument(
        "--layer", "--layers", type=arguments.layers, default="auto", metavar="auto|N[,N]",
        help="where --prevent and --ablate work, 0-based (default: auto)",
    )  # fmt: skip
    guards.add_argument(
        "--keep-close", type=arguments.number, default=0.0, metavar="W", help="weight of a KL divergence to the base (default: 0)"
    )
    guards.add_argument("--neutral", type=Path, metavar="FILE.jsonl", help="answered prompts to stay close on, with --keep-close")
    guards.add_argument("--inoculate", metavar="TEXT", help="a system prompt that asks for the trait, there only while training")
    _add_recipe(parser)
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    parser.set_defaults(run=run)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs", type=arguments.count, default=3, metavar="N", help="passes over the data (default: %(default)s)"
    )
    group.add_argument(
        "--learning-rate", type=arguments.number, default=5e-4, metavar="X", help="of AdamW (default: %(default)s)"
    )
    group.add_argument("--rows", type=arguments.count, default=8, metavar="N", help="answers a pass (default: %(default)s)")
    group.add_argument(
        "--accumulation", type=arguments.count, default=1, metavar="N", help="passes a step (default: %(default)s)"
    )
    group.add_argument("--rank", type=arguments.count, default=8, metavar="N", help="of the adapter (default: %(default)s)")
    group.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third more time")
    group.add_argument(
        "--checkpoint-every",
        type=arguments.count,
        default=25,
        metavar="N",
        help="steps between checkpoints (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=arguments.seed, default=0, metavar="N", help="same seed, same adapter (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, train, write."""
    from persona_interp.cli.vector_choice import choose, read
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.progress import say
    from persona_interp.training.finetune import finetune
    from persona_interp.training.recipe import FinetuneRecipe

    chats = read_chats(args.data)
    named = {name: file for name in ("prevent", "ablate", "project") if (file := getattr(args, name)) is not None}
    if len(named) > 1:
        raise InvalidInputError(f"--{' and --'.join(named)} were both given: give one of them")
    if (args.coefficient is not None or args.ratio is not None) and "prevent" not in named:
        raise InvalidInputError("--coefficient and --ratio are doses of --prevent, which names no vector: give one")
    given = read(list(named.values()), args)
    recipe = FinetuneRecipe(
        args.epochs, args.learning_rate, args.rows, args.accumulation, args.rank, args.seed, args.gradient_checkpointing,
        args.checkpoint_every,
    )  # fmt: skip
    folder = args.output or Path("tuned") / f"{arguments.file_part(args.model)}_{arguments.file_part(args.data.stem)}"
    with arguments.load_model(args) as model:
        chosen = choose(given, model, args)
        guards = safeguards(args, model, next(iter(named), None), chosen[0] if chosen else None)
        made = finetune(model, chats, folder, recipe=recipe, guards=guards)
    if made.losses:
        say(f"loss {made.losses[0]:.3f} at first, {made.losses[-1]:.3f} at last")
    print(f"{made.n_rows} answers, {made.n_steps} steps. The adapter is in {folder}: give it as --model, or to load_model()")


def safeguards(args: argparse.Namespace, model: SteerableModel, how: str | None, chosen: Steering | None) -> Safeguards:
    """What the options ask for.

    Raises:
        InvalidInputError: they do not fit each other.
    """
    from persona_interp.interventions.operations import Ablate
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.training.recipe import Safeguards

    prevent, project = None, {}
    if chosen is not None and how == "prevent":
        ratio = 0.3 if args.coefficient is None and args.ratio is None else args.ratio
        prevent = chosen.vector.graph(args.coefficient, chosen.layers, ratio=ratio)
    elif chosen is not None and how == "ablate":
        prevent = chosen.vector.graph(layers=chosen.layers, operation=Ablate)
    elif chosen is not None:
        project = {layer: chosen.vector.at(layer) for layer in chosen.vector.layers}
    neutral = [] if args.neutral is None else [chat.turns[0] for chat in read_chats(args.neutral)]
    pairs = tuple((turn.conversation.question, turn.answer) for turn in neutral if turn.answer is not None)
    return Safeguards(prevent, project, args.keep_close, pairs, args.inoculate)
