"""Vector files named on the command line, made fit for the model of the command, each with the layers it is used at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from persona_interp.cli import arguments
from persona_interp.cli.align import add_anchor_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.transfers.fitted_to import Fitted
    from persona_interp.vectors.persona_vector import PersonaVector
    from persona_interp.vectors.steering import Steering

WHEN = ("auto", "never", "always")
Read: TypeAlias = "tuple[Path, PersonaVector]"
"""A vector as its file has it."""


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """``--transfer``, ``--anchors`` and ``--num-anchors``."""
    parser.add_argument(
        "--transfer", choices=WHEN, default="auto",
        help="carry vectors of other models over: auto (default) where they are not of a copy of this model (quantized, "
        "finetuned), which is measured; never; or always",
    )  # fmt: skip
    add_anchor_options(parser)


def read(files: Sequence[Path], args: argparse.Namespace | None = None) -> list[Read]:
    """The vectors, before any model is loaded.

    Args:
        files: of vectors.
        args: of the command, to find a missing layer already here where a vector goes by the name of the model.

    Raises:
        FileFormatError: a file cannot be read.
        InvalidInputError: a vector lacks a layer asked for.
    """
    from persona_interp.models.names import same_name
    from persona_interp.models.registry import find_model
    from persona_interp.vectors.persona_vector import PersonaVector

    found = [(file, PersonaVector.load(file)) for file in files]
    if args is not None and isinstance(args.layer, tuple) and args.transfer != "always":
        name = find_model(args.model).name
        for _, vector in found:
            if same_name(vector.model.name, name):  # else it may be carried over, and has other layers then
                vector.select(args.layer)
    return found


def read_one(file: Path, args: argparse.Namespace) -> Read:
    """One vector, to be used at one layer.

    Raises:
        InvalidInputError: several layers were asked for.
        FileFormatError: the file cannot be read.
    """
    layers: arguments.Layers = args.layer
    if layers != "auto" and len(layers) != 1:
        raise InvalidInputError(f"--layer names {len(layers)} layers: this command reads one, for example {layers[0]}")
    return read([file], args)[0]


def fitted(item: Read, model: SteerableModel, args: argparse.Namespace) -> Fitted:
    """The vector made fit for the model, and a line that says what was decided and why.

    Raises:
        PersonaInterpError: as `fitted_to`.
    """
    from persona_interp.progress import say
    from persona_interp.transfers.anchors import read_anchors
    from persona_interp.transfers.fitted_to import fitted_to

    file, vector = item
    found = fitted_to(
        vector,
        model,
        transfer=args.transfer,
        anchors=None if args.anchors is None else read_anchors(args.anchors)[: args.num_anchors],
        n_anchors=args.num_anchors,
        load=arguments.loaded,
        batch_size=args.batch_size,
    )
    if found.decision:
        say(f"note: {file} {found.decision}")
    return found


def choose(items: Sequence[Read], model: SteerableModel, args: argparse.Namespace) -> list[Steering]:
    """Make the vectors fit for the model, settle the layers of each, and say why those.

    Raises:
        InvalidInputError: a vector lacks a layer asked for; names those it has, in the model at hand.
        PersonaInterpError: as `fitted_to`.
    """
    from persona_interp.progress import say

    chosen: list[Steering] = []
    for item in items:
        found = fitted(item, model, args)
        steering = settled(found.vector, args.layer, model.first_steerable_layer)
        if steering.reason is not None:
            say(f"{found.vector.trait}: {steering.reason}")
        chosen.append(replace(steering, decision=found.decision))
    return chosen


def settled(vector: PersonaVector, layers: arguments.LayersOrAll, first_layer: int) -> Steering:
    """The vector at the layers meant, with the reason where nobody named them.

    Raises:
        InvalidInputError: the vector lacks a layer asked for, or has none that can be steered.
    """
    from persona_interp.vectors.steering import Steering

    if layers == "auto":
        return Steering.auto(vector, first_layer)
    return Steering.of(vector, layers)
