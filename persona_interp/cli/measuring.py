"""Options of the commands that measure by answers, and the `Protocol` they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from persona_interp.cli import arguments
from persona_interp.cli.registered import add_judge_option
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.protocol import Protocol


class Doses(TypedDict):
    """One of the two is given."""

    coefficients: Sequence[float] | None
    ratios: Sequence[float] | None


USUAL = (-2.0, -1.0, 0.0, 1.0, 2.0)


def add_coefficients_option(
    parser: argparse.ArgumentParser, what: str, usual: Sequence[float] | None = USUAL, *, where: str = "at the one layer steered"
) -> None:
    """``--coefficients``, or ``--ratio`` in their place.

    Args:
        parser: gets them.
        what: what coefficients do.
        usual: what is tried where nothing is named, if that is always the same.
        where: the residual norm that ratios are a share of.
    """
    said = what if usual is None else f"{what} (default: {' '.join(f'{each:g}' for each in usual)})"
    default = None if usual is None else list(usual)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--coefficients", "--coefficient", type=arguments.number, nargs="+", default=default, metavar="X", help=said
    )
    arguments.add_ratio_option(either, where)


def add_measuring_options(parser: argparse.ArgumentParser) -> None:
    """``--num-prompts``, ``--samples`` and ``--judge``."""
    parser.add_argument(
        "--num-prompts", type=arguments.count, metavar="N", help="evaluation questions asked (default: all the trait has)"
    )
    parser.add_argument(
        "--samples", type=arguments.count, default=1, metavar="K", help="answers to each question (default: %(default)s)"
    )
    add_judge_option(parser)


def add_carrying_options(parser: argparse.ArgumentParser) -> None:
    """What a vector is carried by: ``--source``, anchors, and vectors that need not be extracted."""
    from persona_interp.cli.align import add_anchor_options

    parser.add_argument("--source", required=True, metavar="S", help="model the vector is of, named as --target")
    add_anchor_options(parser)
    parser.add_argument(
        "--vectors", type=Path, nargs="+", default=[], metavar="FILE", help="of source or target, instead of extracting them"
    )
    parser.add_argument(
        "--extraction-samples", type=arguments.count, default=2, metavar="K",
        help="answers per instruction and question where a vector is extracted (default: %(default)s)",
    )  # fmt: skip


def doses(args: argparse.Namespace) -> Doses:
    """The coefficients or the ratios, as functions that measure take them by name.

    Raises:
        InvalidInputError: none of them steers; said before any model is loaded.
    """
    if args.ratio is not None:
        args.coefficients = None
    for name, given in (("--coefficients", args.coefficients), ("--ratio", args.ratio)):
        if given is not None and not any(given):
            raise InvalidInputError(f"{name} are all 0: nothing would be steered; give at least one other, such as 1")
    return {"coefficients": args.coefficients, "ratios": args.ratio}


def protocol(args: argparse.Namespace, folder: Path | None = None) -> Protocol:
    """How the options say it is measured.

    Args:
        args: of the command.
        folder: keeps answers and scores.
    """
    from persona_interp.measure.protocol import Protocol

    return Protocol(
        num_prompts=getattr(args, "num_prompts", None), samples=args.samples, judge=args.judge,
        sampling=arguments.sampling(args), seed=args.seed, folder=folder, batch_size=args.batch_size,
    )  # fmt: skip
