"""``persona-interp export``: a vector in another program's form, or baked into the weights of a model."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import Names
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.cli.vector_choice import Read
    from persona_interp.vectors.steering import Steering

WEIGHTS = "weights"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="write a vector for another program, llama.cpp among them, or bake it into weights",
        description="Write a vector as a llama.cpp control vector (gguf), in our own forms (safetensors, json), as the "
        "tensor of the original code (pt), or as a model folder in which it is part of the weights.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="the vector")
    parser.add_argument(
        "--to", required=True, choices=Names("vectors.formats:export_names", WEIGHTS), metavar="FORM", help="%(choices)s"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE|DIR", help="with weights a new folder")
    parser.add_argument(
        "--model", metavar="M", help="short name, hub id or folder: the model to bake into (needed with weights, only there)"
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--coefficient", type=arguments.number, default=1.0, metavar="X",
        help="multiplies the vector in the weights, or in the line printed for llama.cpp (default: %(default)s)",
    )  # fmt: skip
    arguments.add_ratio_option(either, several=False)
    parser.add_argument(
        "--layer", type=arguments.layers, default="auto", metavar="auto|N[,N]",
        help="0-based: where weights, or the line for llama.cpp, steer; files hold every layer (default: auto)",
    )  # fmt: skip
    arguments.add_engine_option(parser)
    add_transfer_options(parser)
    parser.set_defaults(run=run, batch_size=None)


def run(args: argparse.Namespace) -> None:
    """Check, then write a file or a folder."""
    from persona_interp.cli.vector_choice import read, settled
    from persona_interp.progress import say

    if (args.to == WEIGHTS) != (args.model is not None):
        why = "needs --model, the model to bake into" if args.to == WEIGHTS else "takes no --model: leave it out"
        raise InvalidInputError(f"--to {args.to} {why}")
    if args.to != WEIGHTS and args.output.suffix.lower() != f".{args.to}":
        raise InvalidInputError(f"cannot write --to {args.to} as {args.output}: name a .{args.to} file")
    (given,) = read([args.vectors])
    if args.to == WEIGHTS:
        baked(given, args)
        return
    for_llama = args.to == "gguf"
    _, vector = given
    chosen = settled(vector, args.layer, 1 if for_llama and len(vector.layers) > 1 else 0)
    vector.save(args.output)
    say(f"written: {args.output}")
    if for_llama:
        for line in llama_lines(args.output, chosen.layers, coefficient_of(args, chosen)):
            print(line)


def baked(given: Read, args: argparse.Namespace) -> None:
    """Save the model steered by the vector."""
    from persona_interp.cli.vector_choice import choose
    from persona_interp.models.baked import bake
    from persona_interp.progress import say

    if arguments.runs_in_llama_cpp(args.model, args.engine):
        raise InvalidInputError(
            f"{args.model} is a GGUF file, whose weights cannot be edited: bake into the PyTorch model (--engine torch), or "
            "use --to gguf, which llama.cpp adds while it runs"
        )
    with arguments.loaded(args.model, engine=args.engine) as model:
        (chosen,) = choose([given], model, args)
        bake(model, chosen.at(coefficient_of(args, chosen)).graph(), args.output)
    say(f"written: {args.output}: load it like any Hugging Face checkpoint")


def coefficient_of(args: argparse.Namespace, chosen: Steering) -> float:
    """The coefficient, given as such or as a ratio at the one layer chosen."""
    return args.coefficient if args.ratio is None else chosen.selected.doses(None, [args.ratio])[0]


def llama_lines(path: Path, layers: Sequence[int], coefficient: float) -> list[str]:
    """Commands that steer with the file just written, or why there is none; llama.cpp includes both ends of the range."""
    layers = sorted(layers)
    first, last = layers[0], layers[-1]
    if first == 0 or len(layers) != last - first + 1:
        said = ", ".join(map(str, layers))
        return [f"llama.cpp takes one unbroken range of layers from 1 on, not {said}: name others with --layer for a ready line"]
    if ":" in str(path):
        return [f"llama.cpp splits the name of a control vector at a colon, so it cannot open {path}: name it otherwise"]
    entry, strength = str(path), f"{coefficient:.9g}"
    scaled = f"{entry}:{strength}"
    if "," in entry or '"' in entry:  # llama.cpp reads the argument as a row of CSV
        scaled = '"' + scaled.replace('"', '""') + '"'
    range_of = f"--control-vector-layer-range {first} {last}"
    lines = [
        f"{program} -m MODEL.gguf --control-vector-scaled {shlex.quote(scaled)} {range_of}"
        for program in ("llama-cli", "llama-server")
    ]
    older = f"--control-vector-scaled {shlex.quote(entry)} {strength}"
    return [*lines, f"(older versions of llama.cpp take the strength apart: {older})"]
